"""A tower's own weights as trainable copies, one set per task: all of them, or biases and norms alone.

Sources: Ben Zaken et al., BitFit (2022); Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT,
2022), for the average with the start. Shapes: T tasks, B images, L tokens, D and O widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.model.encoder import DualEncoder, Hook, Pass


class OwnWeights(nn.Module):
    """Copies of the frozen weights that stand in for them, T times.

    Args:
        encoder: where it will attach.
        tasks: T.
        towers: "vision", "text" or both.
        matrices: whether the matrices of linear layers have copies too, and with them the visual embedding:
            else only biases and norms.
    """

    def __init__(
        self, encoder: DualEncoder, tasks: int, towers: Sequence[str], *, matrices: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.matrices = encoder, matrices
        self.frozen = {place: module for tower in towers for place, module in encoder.modules(tower).items()}
        self.own = nn.ParameterDict()
        for name, value in self._start().items():
            self.own[_key(name)] = nn.Parameter(value.float().expand(tasks, *value.shape).clone())

    def _start(self) -> dict[str, Tensor]:
        """The frozen values, by place and kind."""
        out = {}
        for place, module in self.frozen.items():
            if self.matrices or isinstance(module, nn.LayerNorm):
                out[f"{place}.weight"] = module.weight
            if module.bias is not None:
                out[f"{place}.bias"] = module.bias
        if self.matrices:
            embedding = self.encoder.clip.vision_model.embeddings
            out["vision.embedding.patch"] = embedding.patch_embedding.weight.flatten(1)
            out["vision.embedding.class"] = embedding.class_embedding
            out["vision.embedding.position"] = embedding.position_embedding.weight
        return out

    @torch.no_grad()
    def average(self, share: float) -> None:
        """In place: this share of what was learned, and the rest of the start."""
        for name, value in self._start().items():
            self.own[_key(name)].lerp_(value.float(), 1 - share)

    @torch.no_grad()
    def write_into(self, encoder: DualEncoder) -> None:
        """Puts the values of one task in the place of the encoder's own weights."""
        modules = {
            place: module for tower in ("vision", "text") for place, module in encoder.modules(tower).items()
        }
        for place in self.frozen:
            for kind in ("weight", "bias"):
                if (name := _key(f"{place}.{kind}")) in self.own:
                    getattr(modules[place], kind).copy_(self.own[name][0])
        if self.matrices:
            embedding = encoder.clip.vision_model.embeddings
            patch = embedding.patch_embedding.weight
            patch.copy_(self.own["vision_embedding_patch"][0].view_as(patch))
            embedding.class_embedding.copy_(self.own["vision_embedding_class"][0])
            embedding.position_embedding.weight.copy_(self.own["vision_embedding_position"][0])

    def places(self) -> dict[str, Hook]:
        """One hook per linear layer and norm that has copies."""
        hooks = {
            place: self._hook(place, module) for place, module in self.frozen.items() if self._has(place)
        }
        return hooks | ({"vision.embedding": self._embed} if self.matrices else {})

    def _has(self, place: str) -> bool:
        return any(_key(f"{place}.{kind}") in self.own for kind in ("weight", "bias"))

    def _hook(self, place: str, module: nn.Linear | nn.LayerNorm) -> Hook:
        if isinstance(module, nn.LayerNorm):
            return partial(self._norm, place, module)
        return partial(self._linear, place, module) if self.matrices else partial(self._shifted, place)

    def _norm(self, place: str, module: nn.LayerNorm, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        plain = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        return value + plain * self._learned(place, "weight", value) + self._learned(place, "bias", value)

    def _shifted(self, place: str, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        return value + self._learned(place, "bias", value)

    def _linear(self, place: str, module: nn.Linear, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        weight = self.own[_key(f"{place}.weight")].to(inputs.dtype)
        out = torch.bmm(inputs.flatten(1, -2), weight.mT).view_as(value)
        if module.bias is None:
            return out
        return out + module.bias + self._learned(place, "bias", value)

    def _learned(self, place: str, kind: str, like: Tensor) -> Tensor:
        """What a norm or bias has moved by, ready to meet (T, ..., D).

        The difference is taken in float32: in half precision a small step next to a large value is lost.
        """
        moved = self.own[_key(f"{place}.{kind}")] - getattr(self.frozen[place], kind).float()
        return moved.to(like.dtype).view(moved.shape[0], *[1] * (like.dim() - 2), -1)

    def _embed(self, value: Tensor, pixels: Tensor, this: Pass) -> Tensor:
        """The visual embedding from own weights: patches, the class token, positions."""
        side = self.encoder.clip.config.vision_config.patch_size
        flat = F.unfold(pixels.flatten(0, 1), side, stride=side).mT  # (T B, L, 3 side^2)
        patch, start, position = (
            self.own[_key(f"vision.embedding.{name}")].to(pixels.dtype)
            for name in ("patch", "class", "position")
        )
        patches = torch.bmm(flat.unflatten(0, pixels.shape[:2]).flatten(1, 2), patch.mT)
        patches = patches.unflatten(1, (pixels.shape[1], -1))
        first = start[:, None, None].expand(-1, pixels.shape[1], -1, -1)
        return torch.cat([first, patches], dim=2) + position.unsqueeze(1)


def _key(name: str) -> str:
    return name.replace(".", "_")  # torch keeps dots of parameter names for itself
