#!/usr/bin/env bash
# The table of docs/mini-world.md: every method on the four mini worlds with the bundled mini CLIP.
# Interrupted, it goes on where it stopped; several copies with the same STORE share the work.
#
#   STORE=mini-world.db bash benchmarks/mini-world/run.sh
#   TASKS=200 RECIPE=views=five MORE="--device cuda" bash benchmarks/mini-world/run.sh     # full size, on a GPU
set -euf

STORE="${STORE:-mini-world.db}"
TASKS="${TASKS:-40}"          # per cell, on reporting seeds
DEVELOPMENT="${DEVELOPMENT:-4}" # per cell, on development seeds, run first
RECIPE="${RECIPE:-views=none,steps=50}"
STEPS="${STEPS:-steps=50}"    # of clip-lora, which has its own crops
POOLS="${POOLS:-mini-crops mini-land mini-skin mini-xray}"
MORE="${MORE:-}"

SHOT1="zero-shot[reading=centre] prompt-lora[$RECIPE] atha[$RECIPE] atha[variant=released,$RECIPE] clip-lora[$STEPS]
       atha[align=push,$RECIPE] atha[align=pull,$RECIPE] atha[align=uniform,$RECIPE] atha[align=random,$RECIPE]"
SHOT5="zero-shot[reading=centre] prompt-lora[$RECIPE] atha[$RECIPE]"
ALL="--pools $POOLS --model mini --store $STORE $MORE"

farshot bench $ALL --shots 1 --tasks $DEVELOPMENT --seed 1 --methods $SHOT1
farshot bench $ALL --shots 1 --tasks $TASKS --report --methods $SHOT1
farshot bench $ALL --shots 5 --tasks $DEVELOPMENT --seed 1 --methods $SHOT5
farshot bench $ALL --shots 5 --tasks $TASKS --report --methods $SHOT5

farshot table --store $STORE --format markdown
for method in "zero-shot[reading=centre]" "clip-lora[$STEPS]" "atha[$RECIPE]" "atha[variant=released,$RECIPE]" "atha[align=push,$RECIPE]" \
    "atha[align=pull,$RECIPE]" "atha[align=uniform,$RECIPE]" "atha[align=random,$RECIPE]"; do
    farshot compare "$method" "prompt-lora[$RECIPE]" --store $STORE --format markdown
done
farshot compare "atha[$RECIPE]" "atha[align=random,$RECIPE]" --store $STORE --format markdown
