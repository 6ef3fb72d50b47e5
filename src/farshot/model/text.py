"""Prompts as token ids, at the length of the longest prompt instead of CLIP's 77."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


class PromptCutWarning(UserWarning):
    """A prompt is longer than the text tower reads."""


@dataclass(frozen=True)
class Prompts:
    """Token ids of N prompts for each of T tasks.

    Attributes:
        ids: (T, N, S), padded behind the end token.
        ends: position of each prompt's end token, (T, N).
    """

    ids: Int[Tensor, "T N S"]
    ends: Int[Tensor, "T N"]

    @classmethod
    def from_ids(cls, ids: Int[Tensor, "T N S"], end_token: int) -> Prompts:
        """Finds the first end token of each prompt and drops the padding that no prompt needs."""
        ends = (ids == end_token).int().argmax(-1)
        return cls(ids[..., : int(ends.max()) + 1], ends)

    def to(self, device: torch.device) -> Prompts:
        """The same prompts on another device."""
        return Prompts(self.ids.to(device), self.ends.to(device))


class Tokeniser:
    """A transformers tokenizer with the one manner of use that CLIP needs.

    Args:
        tokenizer: CLIP's, which sets start and end token itself.
        length: number of positions of the text tower.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length

    def __call__(self, texts: Sequence[Sequence[str]]) -> Prompts:
        """Ids of the N prompts of each of T tasks; what is too long is cut, with a warning that names it."""
        flat = [prompt for task in texts for prompt in task]
        rows: list[list[int]] = self.tokenizer(flat, truncation=False, verbose=False)["input_ids"]
        end = int(self.tokenizer.eos_token_id)
        for i, row in enumerate(rows):
            if len(row) > self.length:
                warnings.warn(
                    f"The prompt {flat[i][:60]!r}... has {len(row)} tokens; this model reads "
                    f"{self.length}, the rest is cut.",
                    PromptCutWarning,
                    stacklevel=2,
                )
                rows[i] = [*row[: self.length - 1], end]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
        return Prompts.from_ids(ids.view(len(texts), -1, longest), end)

    def word_count(self, text: str) -> int:
        """Number of tokens of a text, start and end token not counted."""
        return len(self.tokenizer(text)["input_ids"]) - 2
