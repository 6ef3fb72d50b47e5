"""Trainable copies of a tower's weights, one set per task: all weights, or biases and norms only.

Sources: Ben Zaken et al., BitFit (2022); Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT,
2022), for the average with the start. Shapes: T tasks, B images, L tokens, D and O widths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.model.encoder import Encoder, TowerName
from farshot.model.tower import Hook, Pass
from farshot.parts.merging import MergedTensors

_EMBEDDING = ("patch", "class", "position")


class OwnWeights(nn.Module):
    """Copies of the frozen weights that replace them, T times.

    Args:
        encoder: whose weights.
        tasks: T.
        towers: "vision", "text" or both.
        matrices: whether linear layers have copies too, and with them the visual embedding (class token and
            positions; the patches' matrix, unless the embedding is a stack of convolutions); else only biases
            and norms. A layer scale, registers and the query of attention pooling stay frozen.
        layers: a regular expression of the layers that have copies, such as "projection"; then the visual
            embedding has none. None for all.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: int,
        towers: Sequence[TowerName],
        *,
        matrices: bool = False,
        layers: str | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.matrices, self.towers = encoder, matrices, tuple(towers)
        self.layers = layers
        self.own = nn.ParameterDict()
        for name, value in self._start():
            self.own[_key(name)] = nn.Parameter(value.float().expand(tasks, *value.shape).clone())

    def _start(self) -> Iterator[tuple[str, Tensor]]:
        """The frozen values, by place and kind: "vision.3.q.weight", "vision.embedding.class"."""
        for tower in self.towers:
            for layer in self._layers(tower):
                for kind in self._kinds(tower, layer):
                    yield f"{_place(tower, layer)}.{kind}", self._frozen(tower, f"{layer}.{kind}")
        if self._embeds:
            for name in _EMBEDDING:
                value = self._embedding(name)
                if value is not None:
                    yield f"vision.embedding.{name}", value

    @property
    def _embeds(self) -> bool:
        """Whether the visual embedding has copies."""
        return self.matrices and "vision" in self.towers and self.layers is None

    def _layers(self, tower: TowerName) -> list[str]:
        """Linear layers and norms of a tower that have copies."""
        tensors = self.encoder.tower(tower).tensors
        names = {name.rpartition(".")[0] for name in tensors if name.endswith((".weight", ".bias"))}
        outside = {name for name in names if name.startswith(("patch", "stem"))}
        chosen = {name for name in names - outside if self.layers is None or re.fullmatch(self.layers, name)}
        return [name for name in sorted(chosen) if self._kinds(tower, name)]

    def _kinds(self, tower: TowerName, layer: str) -> list[str]:
        tensors = self.encoder.tower(tower).tensors
        kinds = ("weight", "bias") if self.matrices or _is_norm(tensors, layer) else ("bias",)
        return [kind for kind in kinds if f"{layer}.{kind}" in tensors]

    def _frozen(self, tower: TowerName, name: str) -> Tensor:
        return self.encoder.tower(tower).tensors[name]

    def _embedding(self, name: str) -> Tensor | None:
        """A frozen tensor of the visual embedding, the patches' as a matrix; None where it has no copy."""
        vision = self.encoder.vision
        if name == "patch":
            return None if vision.config.stem else vision.tensors["patch.weight"].flatten(1)
        return vision.tensors.get(name)

    @torch.no_grad()
    def average(self, share: float) -> None:
        """Replace the weights by share * trained + (1 - share) * initial."""
        for name, value in self._start():
            self.own[_key(name)].lerp_(value.float(), 1 - share)

    @torch.no_grad()
    def merged_tensors(self, encoder: Encoder) -> MergedTensors:
        """The values of one task."""
        out: MergedTensors = {"vision": {}, "text": {}}
        for tower in self.towers:
            for layer in self._layers(tower):
                for kind in self._kinds(tower, layer):
                    value = self.own[_key(f"{_place(tower, layer)}.{kind}")][0]
                    out[tower][f"{layer}.{kind}"] = value.to(encoder.dtype)
        for name in _EMBEDDING:
            if (copied := _key(f"vision.embedding.{name}")) in self.own:
                target = "patch.weight" if name == "patch" else name
                like = encoder.vision.tensors[target]
                out["vision"][target] = self.own[copied][0].view_as(like).to(like.dtype)
        return out

    def places(self) -> dict[str, Hook]:
        """One hook per linear layer and norm that has copies."""
        hooks: dict[str, Hook] = {}
        for tower in self.towers:
            tensors = self.encoder.tower(tower).tensors
            for layer in self._layers(tower):
                hook = (
                    self._norm
                    if _is_norm(tensors, layer)
                    else self._linear
                    if self.matrices
                    else self._shifted
                )
                hooks[_place(tower, layer)] = partial(hook, tower, layer)
        if self._embeds:
            hooks["vision.embedding"] = self._embed
        return hooks

    def _norm(self, tower: TowerName, layer: str, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        plain = F.layer_norm(inputs, inputs.shape[-1:], eps=self.encoder.tower(tower).config.eps)
        weight, bias = (self._learned(tower, layer, kind, value) for kind in ("weight", "bias"))
        return value + plain * weight + bias

    def _shifted(self, tower: TowerName, layer: str, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        return value + self._learned(tower, layer, "bias", value)

    def _linear(self, tower: TowerName, layer: str, value: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        weight = self.own[_key(f"{_place(tower, layer)}.weight")].to(inputs.dtype)
        out = torch.bmm(inputs.flatten(1, -2), weight.mT).view_as(value)
        bias = self.encoder.tower(tower).tensors.get(f"{layer}.bias")
        return out if bias is None else out + bias + self._learned(tower, layer, "bias", value)

    def _learned(self, tower: TowerName, layer: str, kind: str, like: Tensor) -> Tensor:
        """The change of a norm or bias, in the shape that meets (T, ..., D).

        The difference is taken in float32: in half precision a small step next to a large value is lost.
        """
        moved = (
            self.own[_key(f"{_place(tower, layer)}.{kind}")] - self._frozen(tower, f"{layer}.{kind}").float()
        )
        return moved.to(like.dtype).view(moved.shape[0], *[1] * (like.dim() - 2), -1)

    def _embed(self, value: Tensor, pixels: Tensor, this: Pass) -> Tensor:
        """The visual embedding with the copies: patches, the class token, positions."""
        config, start = self.encoder.vision.config, self.encoder.vision.config.prefix
        kept, patches, behind = value.tensor_split((start, start + config.patches), dim=2)
        position = self._own("position", pixels)
        if (weight := self._own("patch", pixels)) is not None:
            flat = F.unfold(pixels.flatten(0, 1), config.patch, stride=config.patch).mT  # (T B, L, 3 p^2)
            flat = flat.unflatten(0, pixels.shape[:2]).flatten(1, 2)
            patches = torch.bmm(flat, weight.mT).unflatten(1, (pixels.shape[1], -1))
            if (bias := self.encoder.vision.tensors.get("patch.bias")) is not None:
                patches = patches + bias
        elif position is not None:
            patches = patches - self.encoder.vision.tensors["position"][-config.patches :]
        if position is not None:
            patches = patches + position[:, None, -config.patches :]
        if (first := self._own("class", pixels)) is not None:
            first = first if position is None else first + position[:, 0]
            spread = first[:, None, None].expand(-1, pixels.shape[1], -1, -1)
            kept = torch.cat([spread, kept[:, :, 1:]], dim=2)
        return torch.cat([kept, patches, behind], dim=2)

    def _own(self, name: str, like: Tensor) -> Tensor | None:
        key = _key(f"vision.embedding.{name}")
        return self.own[key].to(like.dtype) if key in self.own else None


def _is_norm(tensors: dict[str, Tensor], layer: str) -> bool:
    weight = tensors.get(f"{layer}.weight")
    return weight is not None and weight.ndim == 1


def _place(tower: TowerName, layer: str) -> str:
    return f"{tower}.{layer.removeprefix('blocks.')}"


def _key(name: str) -> str:
    return name.replace(".", "_")  # torch keeps dots of parameter names for itself
