"""The mini CLIP's tokenizer: CLIP's own byte-level kind, with merges for the mini world's words.

A word of the captions is one token; any other text falls apart into pieces and single bytes, so that every
class name works.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from transformers import CLIPTokenizer

from farshot.world import captions
from farshot.world.vocabulary import BACKGROUNDS, COLOURS, COUNTS, NOUNS, PLACES, SIZES, TEXTURES, plural

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 77
# frequent words of people's own class names and prompts
EXTRA = "the of with and in at an a photo image picture showing close up x - . ,"


def caption_words() -> list[str]:
    """All words of the captions, sorted."""
    lines = [EXTRA, " ".join((*COLOURS, *BACKGROUNDS, *SIZES, *TEXTURES, *COUNTS, *PLACES))]
    for noun in NOUNS:
        lines.append(f"{noun} {plural(noun)}")
        lines.extend(captions.plain(noun))
        lines.extend(captions.describe_thing(noun, "red", "plain", "small", 2, "on the left", "sand"))
        lines.extend(captions.describe_pattern(noun, "red", "small", "on the left", "sand"))
    lines.extend(captions.TARGET_WORDS.values())
    separate = "".join(lines_with_spaces(lines))
    return sorted({word for word in separate.split() if word.isalpha()})


def lines_with_spaces(lines: Iterable[str]) -> Iterable[str]:
    """Punctuation is separate, as it is for the tokenizer."""
    for line in lines:
        yield "".join(letter if letter.isalpha() else f" {letter} " for letter in line) + " "


def _byte_letters() -> list[str]:
    """The printable letter that represents each of the 256 bytes: GPT-2's table."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(spare)) for byte in range(256)]


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges that make one token of every word; a later word's come last and leave earlier words whole."""
    merges: list[tuple[str, str]] = []
    rank: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            best = min(range(len(pairs)), key=lambda i: rank.get(pairs[i], len(rank) + i))
            if pairs[best] not in rank:
                rank[pairs[best]] = len(merges)
                merges.append(pairs[best])
            pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
    return merges


def build_tokenizer() -> CLIPTokenizer:
    letters = _byte_letters()
    merges = learn_merges(caption_words())
    pieces = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers and mask, both (n, longest), padded with the end token."""
    out = tokenizer(texts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="np")
    return out["input_ids"], out["attention_mask"]
