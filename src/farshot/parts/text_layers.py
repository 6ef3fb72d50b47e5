"""What VtT reads from all layers of both towers, and the prompt in which a vector replaces the class name.

Source: Reclaiming Lost Text Layers (VtT, arXiv 2603.05235), which is written for 12 blocks in both towers.
For others the levels are spread evenly over both, as many as the shallower tower has blocks. Shapes: T tasks,
N classes, B images, E joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from farshot.errors import SettingError
from farshot.model.encoder import Encoder
from farshot.model.tokenizer import Prompts
from farshot.model.tower import Hook, Pass
from farshot.task import Task


class ClassTokens:
    """Reads the class token after some vision blocks, as the final norm and projection would."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._found: dict[int, Tensor] = {}  # tokens by the block that follows
        self.blocks = _blocks(encoder.vision_depth, levels_of(encoder))

    def places(self) -> Mapping[str, Hook]:
        """Before the block that follows; behind the last is the image embedding itself."""
        return {f"vision.{block}.input": self._keeper(block) for block in self.blocks[1:]}

    def _keeper(self, block: int) -> Hook:
        def keep(tokens: Tensor, _input: Tensor, _pass: Pass) -> Tensor:
            self._found[block] = tokens[:, :, 0]
            return tokens

        return keep

    def deep_to_shallow(self, images: Float[Tensor, "T B E"]) -> Float[Tensor, "T B levels E"]:
        """Of the pass that gave these embeddings, not normalised."""
        vision = self.encoder.vision
        earlier = [vision.project(vision.final_norm(self._found[block])) for block in self.blocks[1:]]
        return torch.stack([images, *earlier], dim=2)


class TextLayers:
    """Class texts after some text blocks, read out like the last.

    Args:
        encoder: the frozen encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._found: dict[int, Tensor] = {}  # tokens by the block that follows
        self.blocks = _blocks(encoder.text.config.depth, levels_of(encoder))

    def places(self) -> Mapping[str, Hook]:
        """Before the block that follows."""
        return {f"text.{block}.input": self._keeper(block) for block in self.blocks[1:]}

    def _keeper(self, block: int) -> Hook:
        def keep(tokens: Tensor, _input: Tensor, _pass: Pass) -> Tensor:
            self._found[block] = tokens
            return tokens

        return keep

    @torch.no_grad()
    def of(self, tasks: Sequence[Task]) -> Float[Tensor, "T N levels E"]:
        """Of every class, not normalised, from the last block to the first."""
        prompts = self.encoder.prompts([task.prompts for task in tasks])
        last = self.encoder.forward_texts(prompts, Pass([self])).final
        earlier = [self.encoder.text.read(self._found[block], prompts) for block in self.blocks[1:]]
        return torch.stack([last, *earlier], dim=2)


class Gap:
    """Puts one vector per prompt in place of a word."""

    def __init__(self, vectors: Float[Tensor, "T B D"], place: int) -> None:
        self.vectors, self.place = vectors, place

    def places(self) -> Mapping[str, Hook]:
        """Before positions are added."""
        return {"text.embedding": self._put}

    def _put(self, tokens: Tensor, _input: Tensor, _pass: Pass) -> Tensor:
        before, behind = tokens[:, :, : self.place], tokens[:, :, self.place + 1 :]
        return torch.cat([before, self.vectors[:, :, None].to(tokens.dtype), behind], dim=2)


def levels_of(encoder: Encoder) -> int:
    """Blocks of the shallower tower."""
    return min(encoder.vision_depth, encoder.text.config.depth)


def _blocks(depth: int, levels: int) -> list[int]:
    """The block that would follow each level, from the deepest to the shallowest; evenly spread."""
    return [round(depth * level / levels) for level in range(levels, 0, -1)]


def prompt_with_a_gap(encoder: Encoder, tasks: Sequence[Task]) -> tuple[Prompts, int]:
    """The prompt of every task with the one-token class name "x", and the position of that token."""
    words = [[task.template.replace("{}", "x"), task.template.replace("{}", "y")] for task in tasks]
    prompts = encoder.prompts(words)
    differ: Int[Tensor, " places"] = (prompts.ids[0, 0] != prompts.ids[0, 1]).nonzero().flatten()
    if not len(differ):
        raise SettingError(
            f"The template {tasks[0].template!r} is so long that the class name is cut off; shorten it."
        )
    return prompts, int(differ[0])
