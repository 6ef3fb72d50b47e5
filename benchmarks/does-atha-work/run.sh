#!/usr/bin/env bash
# The verdict of docs/does-atha-work.md: both variants of ATHA against the methods that they are added to.
# Interrupted, it goes on where it stopped; several copies with the same folder share the work.
#
#   REAL="rsscn7=PATH leaves=PATH" MODEL=CHECKPOINT WAYS="--ways leaves=4" bash benchmarks/does-atha-work/run.sh
#   RECIPE=steps=100 TASKS=800 MORE="--device cuda" bash benchmarks/does-atha-work/run.sh     # full size, on a GPU
set -euf

WORK="${WORK:-does-atha-work}"  # folder of the stores
TASKS="${TASKS:-100}"           # per cell, on reporting seeds
SHOTS="${SHOTS:-1 5}"
BASES="${BASES:-prompt-lora clip-lora vtt limo}"
RECIPE="${RECIPE:-steps=50,views=none}"
MINI="${MINI-mini-crops mini-land mini-skin mini-xray}"
MODEL="${MODEL:-}"              # for pools of real images, REAL
REAL="${REAL:-}"
WAYS="${WAYS:-}"                # of these pools
MORE="${MORE:-}"
OUT="${OUT:-docs/does-atha-work.md}"
PART="${PART:-verdict}"         # of this page

run() { # store, model, pools, more options
    for base in $BASES; do
        recipe="$RECIPE"
        if [ "$base" = vtt ]; then recipe="${RECIPE%%,views=*}"; fi # has no views
        farshot bench --store "$WORK/$1.db" --model "$2" --pools $3 --shots $SHOTS --tasks "$TASKS" --report $4 $MORE \
            --methods "$base[$recipe]" "atha[base=$base,$recipe]" "atha[base=$base,variant=released,$recipe]"
    done
}

mkdir -p "$WORK"
if [ -n "$REAL" ]; then run real "$MODEL" "$REAL" "$WAYS"; fi
if [ -n "$MINI" ]; then run mini mini "$MINI" ""; fi
stores=""
for store in real mini; do if [ -e "$WORK/$store.db" ]; then stores="$stores $WORK/$store.db"; fi; done
python -m benchmarks.atha_verdict --out "$OUT" --part "$PART" --recipe "$RECIPE" \
    --made-by "BASES='$BASES' SHOTS='$SHOTS' TASKS=$TASKS RECIPE=$RECIPE bash benchmarks/does-atha-work/run.sh" $stores
