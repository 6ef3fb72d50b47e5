"""Learnable prompts: tokens before the class name, behind the patches, or both; one set per task, shared by
its classes.

Sources: Zhou et al., CoOp (2022), for the context; Jia et al., Visual Prompt Tuning (2022), for prompts of
the vision tower; Khattak et al., MaPLe (2023), for linked prompts of both towers. Shapes: T tasks, N classes,
B images, L patches, S tokens of a prompt, n learnable tokens, D width of a tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.errors import SettingError
from farshot.model.encoder import Encoder
from farshot.model.tower import Hook, Pass
from farshot.parts.keyed import torch_generator

_STD = 0.02  # of prompts that start at random, in all three sources' programs


class PromptContext(nn.Module):
    """Replaces the prompt's words before the class name.

    Args:
        encoder: gives widths and depths of the towers.
        templates: the prompt of each task; the words before `{}` make room for its context. All of one length
            in tokens.
        length: n, the first words that are replaced; all where None.
        keys: one number per task; values start at random, and follow it. None: from the words' embeddings.
        classes: N, for a context of each class; None for one that all classes of a task share.
    """

    def __init__(
        self,
        encoder: Encoder,
        templates: Sequence[str],
        length: int | None = None,
        keys: Sequence[int] | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        prefixes = [template.partition("{}")[0].strip() for template in templates]
        words = encoder.tokenizer.words(prefixes)
        shortest = min(range(len(words)), key=lambda i: len(words[i]))
        if len(words[shortest]) < (length or 1):
            needed = f"{length} words" if length else "at least one word"
            raise SettingError(
                f"A learnable context takes the place of the words before {{}}: the template "
                f"{templates[shortest]!r} needs {needed}."
            )
        if length is None and len({len(ids) for ids in words}) > 1:
            raise SettingError(
                f"The contexts of tasks in one batch have one length, but the words before {{}} are "
                f"{len(words[shortest])} to {max(map(len, words))} tokens: "
                f"{', '.join(map(repr, sorted(set(templates))))}."
            )
        self.length = length or len(words[0])
        self.start = encoder.tokenizer.first_word
        check_fits(encoder, self.length)
        if keys is None:
            ids = torch.tensor([row[: self.length] for row in words], device=encoder.device)
            started = F.embedding(ids, encoder.text.tensors["token"])
            if classes is not None:
                started = started[:, None].repeat(1, classes, 1, 1)
        else:
            each = () if classes is None else (classes,)
            started = _random("context", keys, (*each, self.length, encoder.width("text")))
        self.values = nn.Parameter(started.float().to(encoder.device))  # (T, n, D) or (T, N, n, D)

    @property
    def class_specific(self) -> bool:
        """Whether each class has a context, so that there is none for other classes."""
        return self.values.dim() == 4

    def check_names(self, encoder: Encoder, template: str, prompts: Sequence[str]) -> None:
        """Refuse prompts of a template in which the context would take the place of a part of the class name.

        Raises:
            SettingError: names the template and a prompt.
        """
        for prompt in prompts:
            if encoder.tokenizer.words_before(template, prompt) < self.length:
                raise SettingError(
                    f"In {prompt!r}, the words before the class name run into it, and a learnable context "
                    f"would take the place of a part of the name; write a space before {{}} in the template "
                    f"{template!r}."
                )

    def places(self) -> dict[str, Hook]:
        """After the start token (in front, where there is none), before positions are added."""
        return {"text.embedding": self._replace}

    def _replace(self, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        return put(tokens, self.values, self.start)


def check_fits(encoder: Encoder, count: int) -> None:
    """Refuse more learnable tokens than a prompt has room for, next to a class name and the special tokens.

    Raises:
        SettingError: names both numbers.
    """
    rules = encoder.tokenizer.rules
    room = rules.length - sum(special is not None for special in (rules.start, rules.end)) - 1
    if count > room:
        raise SettingError(
            f"{count} learnable tokens take more than the {room} for which a prompt of {encoder.source} has "
            "room next to a class name; choose fewer, or a shorter template."
        )


class VisualPrompts(nn.Module):
    """Tokens behind the patches, with other values before each of the first blocks.

    Args:
        encoder: gives width and depth of the vision tower.
        keys: one number per task; values start at random, and follow it.
        count: n.
        depth: number of blocks that get new values; before later ones the tokens pass on.
    """

    def __init__(self, encoder: Encoder, keys: Sequence[int], count: int, depth: int) -> None:
        super().__init__()
        self.behind, self.depth = _behind(encoder), min(depth, encoder.vision_depth)
        started = _random("visual prompts", keys, (self.depth, count, encoder.width("vision")))
        self.values = nn.Parameter(started.to(encoder.device))  # (T, depth, n, D)

    def places(self) -> dict[str, Hook]:
        """Added before the first norm, replaced before later blocks."""
        return _behind_patches(self.depth, self.behind, lambda block: self.values[:, block])


class LinkedPrompts(nn.Module):
    """Prompts of both towers, those of the vision tower a linear image of those of the text tower, block by
    block.

    Args:
        encoder: gives widths and depths of the towers.
        context: the tokens before the first text block.
        keys: one number per task, for values that start at random.
        depth: number of blocks that get new values, in both towers; at most the shallower tower's.
    """

    def __init__(self, encoder: Encoder, context: PromptContext, keys: Sequence[int], depth: int) -> None:
        super().__init__()
        self.behind, self.depth = _behind(encoder), min(depth, encoder.vision_depth, encoder.text_depth)
        self.context = context
        wide, narrow = encoder.width("vision"), encoder.width("text")
        deeper = _random("linked prompts", keys, (self.depth - 1, context.length, narrow))
        self.deeper = nn.Parameter(deeper.to(encoder.device))  # (T, depth - 1, n, D of text)
        # initialised as torch.nn.Linear; one draw for all later blocks, as in MaPLe's program
        bound, later = 1 / math.sqrt(narrow), self.depth - 1
        weight, bias = (
            torch.stack(
                [
                    _random(f"first {name}", keys, shape, bound),
                    *[_random(f"later {name}", keys, shape, bound)] * later,
                ],
                dim=1,
            )
            for name, shape in (("weight", (wide, narrow)), ("bias", (wide,)))
        )
        self.weight = nn.Parameter(weight.to(encoder.device))  # (T, depth, D of vision, D of text)
        self.bias = nn.Parameter(bias.to(encoder.device))  # (T, depth, D of vision)

    def places(self) -> dict[str, Hook]:
        """The context, the later blocks of the text tower, and the vision tower."""
        text = {
            f"text.{block}.input": _putting(partial(self._deeper, block), self.context.start)
            for block in range(1, self.depth)
        }
        return self.context.places() | text | _behind_patches(self.depth, self.behind, self._linked)

    def _deeper(self, block: int) -> Float[Tensor, "T n D"]:
        return self.deeper[:, block - 1]

    def _linked(self, block: int) -> Float[Tensor, "T n D"]:
        words = self._deeper(block) if block else self.context.values
        return torch.baddbmm(self.bias[:, block, None], words, self.weight[:, block].mT)


def _behind(encoder: Encoder) -> int:
    """Position of the first token behind the patches."""
    return encoder.vision.config.prefix + encoder.vision.config.patches


def _behind_patches(
    depth: int, start: int, values: Callable[[int], Float[Tensor, "T n D"]]
) -> dict[str, Hook]:
    """Prompts from token `start` on: added before the first norm, replaced before the next blocks."""
    places = ["vision.embedding", *(f"vision.{block}.input" for block in range(1, depth))]
    return {place: _putting(partial(values, block), start) for block, place in enumerate(places)}


def _putting(values: Callable[[], Float[Tensor, "T n D"]], start: int) -> Hook:
    return lambda tokens, _input, _pass: put(tokens, values(), start)


def put(
    tokens: Float[Tensor, "T B S D"], prompts: Float[Tensor, "T *B n D"], start: int
) -> Float[Tensor, "T B out D"]:
    """Prompts, of a task or of each sample, in place of the n tokens from `start` on; behind the last one
    they are added."""
    prompts = prompts.to(tokens.dtype)
    spread = prompts if prompts.dim() == 4 else prompts[:, None].expand(-1, tokens.shape[1], -1, -1)
    return torch.cat([tokens[:, :, :start], spread, tokens[:, :, start + prompts.shape[-2] :]], dim=2)


def _random(
    name: str, keys: Sequence[int], shape: Sequence[int], bound: float | None = None
) -> Float[Tensor, "T ..."]:
    """One draw per task: normal, or uniform within the bound."""
    drawn = []
    for key in keys:
        values, generator = torch.empty(*shape), torch_generator(name, key)
        drawn.append(
            values.normal_(std=_STD, generator=generator)
            if bound is None
            else values.uniform_(-bound, bound, generator=generator)
        )
    return torch.stack(drawn)
