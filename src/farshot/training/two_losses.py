"""Training with two losses of which the second may not point against the first: that of VtT.

Source: Reclaiming Lost Text Layers (VtT, arXiv 2603.05235). Shapes: T tasks, N classes, B images of a step, E
joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.model.encoder import Encoder
from farshot.model.tokenizer import Prompts
from farshot.model.tower import Part, Pass, TextFeatures
from farshot.parts.bridge import Bridge
from farshot.parts.text_layers import ClassTokens, Gap, TextLayers, prompt_with_a_gap
from farshot.task import Task
from farshot.training.batches import StepImages
from farshot.training.loop import class_logits
from farshot.training.recipe import Recipe

_WINDOW = 50  # steps over which the agreement of the two losses is averaged


class TwoLosses:
    """The gradients of a step: of the cross-entropy CE plus `weight` times V, minus cosine of image and
    absorbing text. It remembers how far the two agreed in each task.

    Args:
        parts: LoRA, under the name "lora", and what else acts and learns.
        bridge: makes the vector that the text absorbs.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        parts: Mapping[str, nn.Module],
        bridge: Bridge,
        weight: float,
    ) -> None:
        self.encoder, self.bridge, self.weight = encoder, bridge, weight
        self.layers = TextLayers(encoder).of(tasks)  # (T, N, levels, E), deep to shallow
        self.prompt, self.place = prompt_with_a_gap(encoder, tasks)
        self.lora = list(parts["lora"].parameters())
        self.others = [
            parameter
            for name, part in parts.items()
            if name != "lora"
            for parameter in part.parameters()
            if parameter.requires_grad
        ]
        self.agreement: list[Float[Tensor, " T"]] = []
        self.alone = torch.zeros(len(tasks), dtype=torch.bool, device=encoder.device)  # CE is left alone

    def __call__(
        self, parts: Sequence[Part], texts: TextFeatures, batch: StepImages, step: int, recipe: Recipe
    ) -> Float[Tensor, " T"]:
        """Set the gradients of all parameters; returns CE."""
        shared, helping = [*self.lora, *self.others], list(self.bridge.parameters())
        plain, led = [torch.zeros_like(p) for p in shared], [torch.zeros_like(p) for p in shared]
        helped = [torch.zeros_like(p) for p in helping]
        total = torch.zeros(len(self.alone), device=self.encoder.device)
        for part in batch.parts(recipe.micro_batch):
            entropy, towards = self.losses(parts, texts, part, step, recipe.scale)
            for sums, grad in zip(plain, _gradients(entropy, shared), strict=True):
                sums += grad
            if not self.alone.all():
                found = _gradients(self.weight * towards, [*shared, *helping])
                for sums, grad in zip([*led, *helped], found, strict=True):
                    sums += grad
            total += entropy.detach()
        self.set_gradients(shared, plain, [a + b for a, b in zip(plain, led, strict=True)])
        for parameter, grad in zip(helping, helped, strict=True):
            parameter.grad = grad
        return total

    def losses(
        self, parts: Sequence[Part], texts: TextFeatures, batch: StepImages, step: int, scale: float
    ) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
        """CE and V of every task."""
        device = self.encoder.device
        labels, weights = batch.labels.to(device), batch.weights.to(device)
        reader = ClassTokens(self.encoder)
        this = Pass(
            [*parts, reader],
            texts=texts,
            step=step,
            samples=batch.samples.to(device),
            images=batch.images.to(device),
        )
        images = self.encoder.forward_images(batch.pixels, this)
        logits = class_logits(images, texts.final.detach(), scale)
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(weights)
        seen = reader.deep_to_shallow(images)  # (T, B, levels, E)
        which = labels[:, :, None, None].expand(-1, -1, *self.layers.shape[2:])
        named = self.layers.gather(1, which)
        pairs = torch.stack([named, seen], dim=3).flatten(2, 3)  # t, v of each level
        vector = self.bridge(torch.cat([seen[:, :, :1], pairs], dim=2))
        filled = self.prompt.ids[:, :1].expand(-1, vector.shape[1], -1)
        prompts = Prompts(
            filled,
            self.prompt.pooled[:, :1].expand(-1, vector.shape[1]),
            self.prompt.kept[:, :1].expand_as(filled),
        )
        absorbed = self.encoder.forward_texts(prompts, Pass([Gap(vector, self.place)])).final
        towards = -(F.normalize(images, dim=-1) * F.normalize(absorbed, dim=-1)).sum(-1)
        return (each * weights).sum(-1), (towards * weights).sum(-1)

    def set_gradients(self, parameters: list[nn.Parameter], plain: list[Tensor], whole: list[Tensor]) -> None:
        """Set the gradients that are used, and record how far the losses agreed in this step.

        Args:
            parameters: the LoRA's first, each with a leading task dimension.
            plain, whole: their gradients of CE, and of CE plus `weight` times V.
        """
        cosines = []
        for number, (parameter, alone, led) in enumerate(zip(parameters, plain, whole, strict=True)):
            a, b = alone.flatten(1), led.flatten(1)
            along, size = (a * b).sum(1), a.square().sum(1)
            product = (size * b.square().sum(1)).sqrt()
            cosine = torch.where(product > 0, along / product, 1.0)
            back = torch.where((cosine < 0) & (size > 0), along / size, 0.0)
            used = torch.where(self.alone[:, None], a, b - back[:, None] * a)
            parameter.grad = used.view_as(parameter)
            if number < len(self.lora):
                cosines.append(cosine)
        self.agreement.append(torch.stack(cosines).mean(0))
        steps = len(self.agreement)
        last = torch.stack(self.agreement[-_WINDOW:])
        mean = (1 + last.sum(0)) / steps if steps < _WINDOW else last.mean(0)
        self.alone = self.alone | (mean <= 0)


def _gradients(losses: Float[Tensor, " T"], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Of the sum over tasks; zeros where a parameter plays no part."""
    found = torch.autograd.grad(losses.sum(), parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if grad is None else grad
        for parameter, grad in zip(parameters, found, strict=True)
    ]
