"""A learnable prompt context (CoOp: Zhou et al., 2022), one per task, shared by its classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from farshot.errors import SettingError
from farshot.model.encoder import DualEncoder, Hook, Pass


class PromptContext(nn.Module):
    """Takes the place of the prompt's words before the class name; started from their embeddings.

    Args:
        encoder: where it will attach.
        templates: the prompt of each task; the words before `{}` start its context. All of one length in
            tokens.
    """

    def __init__(self, encoder: DualEncoder, templates: Sequence[str]) -> None:
        super().__init__()
        prefixes = [template.partition("{}")[0].strip() for template in templates]
        lengths = [encoder.tokeniser.word_count(prefix) for prefix in prefixes]
        if not min(lengths):
            raise SettingError(
                f"A learnable context starts from the words before {{}}: the template "
                f"{templates[lengths.index(0)]!r} needs at least one."
            )
        if len(set(lengths)) > 1:
            raise SettingError(
                f"The contexts of tasks side by side are of one length, but the words before {{}} are "
                f"{min(lengths)} to {max(lengths)} tokens: {', '.join(map(repr, sorted(set(templates))))}."
            )
        self.length = lengths[0]
        prompts = encoder.prompts([[prefix] for prefix in prefixes])
        with torch.no_grad():
            words = encoder.clip.text_model.embeddings.token_embedding(prompts.ids[:, 0, 1 : 1 + self.length])
        self.values = nn.Parameter(words.float())  # (T, length, D)

    def places(self) -> dict[str, Hook]:
        """After the start token, before positions are added."""
        return {"text.embedding": self._replace}

    def _replace(self, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        context = self.values.to(tokens.dtype).unsqueeze(1).expand(-1, tokens.shape[1], -1, -1)
        return torch.cat([tokens[:, :, :1], context, tokens[:, :, 1 + self.length :]], dim=2)
