#!/usr/bin/env bash
# The tables of docs/methods.md: all methods on the four mini worlds, and what lies beyond ATHA's paper on development seeds.
# Interrupted, it goes on where it stopped; several copies with the same STORE share the work.
#
#   farshot store merge benchmarks/methods/fine-tuned.zip methods.db                    # to go on from those results
#   STORE=methods.db bash benchmarks/methods/run.sh
#   TASKS=200 RECIPE=views=five MORE="--device cuda" bash benchmarks/methods/run.sh     # full size, on a GPU
set -euf

STORE="${STORE:-methods.db}"
TASKS="${TASKS:-40}"            # per cell, of methods that train inside CLIP
FEATURE_TASKS="${FEATURE_TASKS:-200}"
RECIPE="${RECIPE:-views=none,steps=50}"
SHOTS="${SHOTS:-1 5}"           # of methods that train inside CLIP
MORE="${MORE:-}"
HERE="$(dirname "$0")"

FEATURES="zero-shot prototypes simpleshot linear-probe ss-text ss-text+ tip-adapter tip-adapter-f clip-adapter lp++ clap transclip
          bd-cspn tim"
TRAINED="prompt-lora[$RECIPE] atha[$RECIPE] clip-lora[steps=50] coop[$RECIPE] maple[$RECIPE] vpt[$RECIPE] bitfit[$RECIPE]
         full[$RECIPE] tir[$RECIPE] mind[$RECIPE] 2sfs[$RECIPE] prolip[steps=50] vtt[steps=50] limo[steps=50]"
BASES="coop vpt bitfit full"
ALL="--pools mini-crops mini-land mini-skin mini-xray --model mini --store $STORE $MORE"

# beyond the paper, on development seeds
farshot bench $ALL --shots 1 --tasks 12 --seed 1 --methods "atha[$RECIPE,ratios=curve]" "atha[$RECIPE,signed=false]" \
    "atha[$RECIPE]" "prompt-lora[$RECIPE]"
for base in $BASES; do
    farshot bench $ALL --shots 1 --tasks 12 --seed 1 --methods "atha[$RECIPE,base=$base]" "$base[$RECIPE]"
done
farshot bench $ALL --shots 1 --tasks 12 --seed 1 --descriptions "$HERE/descriptions.json" --methods "atha[$RECIPE,anchor_texts=descriptions]"

# all methods, on reporting seeds; a few development tasks first
farshot bench $ALL --shots 1 5 --tasks 4 --seed 1 --methods $FEATURES
farshot bench $ALL --shots 1 5 --tasks $FEATURE_TASKS --report --methods $FEATURES
farshot bench $ALL --shots $SHOTS --tasks 4 --seed 1 --methods $TRAINED
farshot bench $ALL --shots $SHOTS --tasks $TASKS --report --methods $TRAINED

farshot table --store $STORE --format markdown
for change in ratios=curve signed=false; do
    farshot compare "atha[$RECIPE,$change]" "atha[$RECIPE]" --store $STORE --format markdown
done
for base in $BASES; do
    farshot compare "atha[$RECIPE,base=$base]" "$base[$RECIPE]" --store $STORE --format markdown
done
