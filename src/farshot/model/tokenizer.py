"""Texts -> token ids, by the `tokenizers` library and the rules of a checkpoint.

The rules are data: cleaning, special tokens, truncation, padding and the token that is pooled. Special tokens
are added here, so a tokenizer file without a post-processor works as well as one with. Shapes: T tasks, N
prompts, S tokens of a prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

Cleaning = Literal["none", "lower", "canonicalize", "remove_punctuation"]


class PromptCutWarning(UserWarning):
    """A prompt is longer than the text tower can read."""


@dataclass(frozen=True)
class Prompts:
    """Token ids of N prompts for each of T tasks.

    Attributes:
        ids: (T, N, S).
        pooled: position of the token that represents the prompt, (T, N).
        kept: whether a token is not padding, (T, N, S).
    """

    ids: Int[Tensor, "T N S"]
    pooled: Int[Tensor, "T N"]
    kept: Bool[Tensor, "T N S"]

    def to(self, device: torch.device) -> Prompts:
        """The same prompts on another device."""
        return Prompts(self.ids.to(device), self.pooled.to(device), self.kept.to(device))


@dataclass(frozen=True)
class TextRules:
    """How a checkpoint wants its texts.

    Attributes:
        length: most tokens of a prompt, special tokens included; longer ones are cut before the end token.
        start, end: ids of the tokens around every prompt; None where there is none.
        pad: id of the padding.
        pool: the token that represents the prompt: "first"; "last", of all `length` positions; "end", the
            first end token; "largest", the first of the largest ids.
        fixed_length: prompts are always padded to `length`, because padding is seen by the tower.
        cleaning: before tokenisation. "lower": lower case; "canonicalize": lower case, '_' becomes a space,
            no punctuation, single spaces (open_clip); "remove_punctuation": the same, but '_' is punctuation
            (transformers' SigLIP).
    """

    length: int
    start: int | None
    end: int | None
    pad: int
    pool: Literal["first", "last", "end", "largest"] = "end"
    fixed_length: bool = False
    cleaning: Cleaning = "none"


class Tokenizer:
    """A tokenizer and the rules of the text tower that it serves.

    Args:
        tokenizer: of the `tokenizers` library; its own truncation, padding and special tokens are not used.
        rules: of the checkpoint.
    """

    def __init__(self, tokenizer: FastTokenizer, rules: TextRules) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.fast, self.rules = tokenizer, rules

    def __call__(self, texts: Sequence[Sequence[str]]) -> Prompts:
        """Ids of the N prompts of each of T tasks; a prompt that is too long is cut with a warning."""
        rules = self.rules
        flat = [prompt for task in texts for prompt in task]
        rows = [self._with_ends(text, ids) for text, ids in zip(flat, self.words(flat), strict=True)]
        width = rules.length if rules.fixed_length else max(map(len, rows))
        ids = torch.tensor([row + [rules.pad] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        kept = torch.arange(width) < lengths[:, None]
        shape = (len(texts), len(flat) // len(texts))
        pooled = pooled_positions(ids, rules)
        return Prompts(ids.view(*shape, width), pooled.view(shape), kept.view(*shape, width))

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts without special tokens, uncut."""
        cleaned = [clean(text, self.rules.cleaning) for text in texts]
        return [found.ids for found in self.fast.encode_batch(cleaned, add_special_tokens=False)]

    def words_before(self, template: str, prompt: str) -> int:
        """How many tokens of a prompt hold nothing of the class name that took the place of `{}` in its
        template, before the first that does."""
        cleaned = clean(prompt, self.rules.cleaning)
        before = clean(template.partition("{}")[0].rstrip(), self.rules.cleaning)
        if not cleaned.startswith(before):
            return 0
        ends = [end for _, end in self.fast.encode(cleaned, add_special_tokens=False).offsets]
        return next((i for i, end in enumerate(ends) if end > len(before)), len(ends))

    @property
    def first_word(self) -> int:
        """Position of a prompt's first word: behind the start token, where there is one."""
        return int(self.rules.start is not None)

    def identity(self) -> str:
        """Hash of vocabulary, splitting and rules; padding and truncation of the file are not part of it."""
        content = json.loads(self.fast.to_str())
        for name in ("truncation", "padding", "post_processor", "version"):
            content.pop(name, None)
        text = json.dumps([content, asdict(self.rules)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _with_ends(self, text: str, ids: list[int]) -> list[int]:
        rules = self.rules
        room = rules.length - (rules.start is not None) - (rules.end is not None)
        if len(ids) > room:
            warnings.warn(
                f"The prompt {text[:60]!r}... has {len(ids) + rules.length - room} tokens; this model reads "
                f"{rules.length}, the rest is cut.",
                PromptCutWarning,
                stacklevel=3,
            )
        start = [] if rules.start is None else [rules.start]
        return [*start, *ids[:room], *([] if rules.end is None else [rules.end])]


def pooled_positions(ids: Int[Tensor, "N S"], rules: TextRules) -> Int[Tensor, " N"]:
    """The position of each prompt's pooled token."""
    if rules.pool == "first":
        return torch.zeros(len(ids), dtype=torch.int64)
    if rules.pool == "last":
        return torch.full((len(ids),), ids.shape[1] - 1)
    if rules.pool == "largest":
        return ids.argmax(-1)
    assert rules.end is not None  # such rules name their end token
    return (ids == rules.end).int().argmax(-1)


_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, how: Cleaning) -> str:
    """A text as the checkpoint's own pipeline hands it to the tokenizer."""
    return _CLEANERS[how](text)


def _canonical(text: str) -> str:
    return re.sub(r"\s+", " ", text.translate(_PUNCTUATION).lower()).strip()


_CLEANERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "lower": str.lower,
    "canonicalize": lambda text: _canonical(text.replace("_", " ")),
    "remove_punctuation": _canonical,
}
