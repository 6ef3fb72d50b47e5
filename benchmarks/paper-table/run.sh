#!/usr/bin/env bash
# The BSCD-FSL table with CLIP ViT-B/16 on the reporting tasks. README.md says what it needs and how long it takes.
# Interrupted, it goes on where it stopped; run it on several GPUs at once with the same STORE to share the work.
set -euf

export FARSHOT_DATA="${FARSHOT_DATA:-data}"
export STORE="${STORE:-results.db}"
export MODEL="${MODEL:-openai/clip-vit-base-patch16}"
export METHODS="${METHODS:-zero-shot prompt-lora atha atha[variant=released] clip-lora}"
export MORE="${MORE:---device cuda}"

farshot data check isic $FARSHOT_DATA/isic
farshot data check eurosat $FARSHOT_DATA/eurosat
farshot data check cropdiseases $FARSHOT_DATA/cropdiseases
farshot data check chestx $FARSHOT_DATA/chestx

farshot data prepare isic --model $MODEL --reading squash --reading model --reading reduced
farshot data prepare eurosat --model $MODEL --reading squash --reading model --reading reduced
farshot data prepare cropdiseases --model $MODEL --reading squash --reading model --reading reduced
farshot data prepare chestx --model $MODEL --reading squash --reading model --reading reduced

farshot bench --pools isic eurosat cropdiseases chestx --shots 1 5 --methods $METHODS \
    --report --store $STORE --model $MODEL $MORE

farshot table --store $STORE --published

# A comparison needs both methods in the store, from this run or an earlier one.
stored() { farshot store list $STORE | grep -qF -- "  $1  "; }
if stored atha && stored prompt-lora; then
farshot compare atha prompt-lora --store $STORE
fi
if stored "atha[variant=released]" && stored prompt-lora; then
farshot compare "atha[variant=released]" prompt-lora --store $STORE
fi
