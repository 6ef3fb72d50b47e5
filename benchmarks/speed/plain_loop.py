"""ATHA as one would write it with transformers and PEFT for one task: what `naive` times, a check of ours.

Released variant (docs/method.md). All prompts at 77 tokens, float32, whole towers in every step, the anchors
from a least-squares problem before every block, PyTorch's own optimisers. Nothing is slower than it need be:
frozen weights get no gradient, images are preprocessed once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from farshot.model.encoder import Encoder, normalise
from farshot.model.formats.clip_hf import config_json, state_dict
from farshot.task import Task

CONTEXT = slice(1, 5)  # "a photo of a", after the start token
POSITIONS = 77
HEAD, TAIL, PULL, PULL_BLOCK, SCALE = 0.3, 0.2, 0.8, 6, 2.0


def transformers_clip(encoder: Encoder) -> CLIPModel:
    """transformers' CLIPModel with the encoder's weights, float32."""
    model = CLIPModel(CLIPConfig.from_dict(config_json(encoder)))
    model.load_state_dict({name: value.float() for name, value in state_dict(encoder).items()})
    return model


class PlainLoop(nn.Module):
    """One task's model and optimisers.

    Args:
        encoder: its weights are copied into a CLIPModel.
        task: support images are read centred, as without views.
        dropout: of the LoRA input.
    """

    def __init__(self, encoder: Encoder, task: Task, dropout: float = 0.25) -> None:
        super().__init__()
        lora = LoraConfig(
            r=16,
            lora_alpha=8,
            use_rslora=True,
            lora_dropout=dropout,
            target_modules=["q_proj", "k_proj", "v_proj"],
        )
        clip = transformers_clip(encoder).to(encoder.device)
        self.peft = get_peft_model(clip, lora).train()
        self.clip = self.peft.base_model.model
        self.projection = clip.visual_projection.weight.detach()  # (E, D)
        depth = len(self.clip.vision_model.encoder.layers)
        self.strengths = nn.Parameter(torch.zeros(2, depth, device=encoder.device))  # pull, push
        with torch.no_grad():
            self.strengths[0, PULL_BLOCK * depth // 12] = PULL
        prompts = encoder.prompts([task.prompts])
        room = POSITIONS - prompts.ids.shape[-1]
        self.ids, self.ends = F.pad(prompts.ids[0], (0, room)), prompts.pooled[0]
        embedding = self.clip.text_model.embeddings.token_embedding
        self.context = nn.Parameter(embedding(self.ids[:1, CONTEXT])[0].detach().clone())
        embedding.register_forward_hook(self._put_context)
        for block, layer in enumerate(self.clip.vision_model.encoder.layers):
            layer.register_forward_pre_hook(self._aligning(block))
        pixels = torch.from_numpy(task.table.pixels(task.support, "centre", encoder.size))
        self.pixels = normalise(
            pixels.to(encoder.device), encoder.preprocessing.mean, encoder.preprocessing.std
        )
        self.labels = torch.as_tensor(task.labels, device=encoder.device)
        self.tap = torch.empty(0)
        self.optimisers = [
            torch.optim.AdamW(self.lora_parameters(), lr=2e-4, weight_decay=0.01),
            torch.optim.SGD([self.context], lr=2e-3, momentum=0.9, weight_decay=5e-4),
            torch.optim.SGD([self.strengths], lr=1e-3, momentum=0.9, weight_decay=5e-4),
        ]

    def lora_parameters(self) -> Iterator[nn.Parameter]:
        """What PEFT trains."""
        return (p for name, p in self.peft.named_parameters() if "lora_" in name)

    def step(self) -> float:
        """One optimiser step on all support images; the loss before it."""
        texts, self.tap = self._texts()
        images = self.clip.visual_projection(self.clip.vision_model(pixel_values=self.pixels).pooler_output)
        logits = SCALE * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT
        loss = F.cross_entropy(logits, self.labels)
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return float(loss.detach())

    def _texts(self) -> tuple[Tensor, Tensor]:
        """Final text embeddings, and the same read-out before the last block: (N, E) each."""
        tower = self.clip.text_model
        out = tower(input_ids=self.ids, output_hidden_states=True)
        rows = torch.arange(len(self.ids), device=self.ids.device)
        final = out.last_hidden_state[rows, self.ends]
        tap = tower.final_layer_norm(out.hidden_states[-2])[rows, self.ends]
        return self.clip.text_projection(final), self.clip.text_projection(tap)

    def _put_context(self, _module: nn.Module, _inputs: object, tokens: Tensor) -> Tensor:
        context = self.context.expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, : CONTEXT.start], context, tokens[:, CONTEXT.stop :]], dim=1)

    def _aligning(self, block: int):
        def align(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            norm = self.clip.vision_model.post_layernorm
            solved = torch.linalg.lstsq(self.projection, self.tap.mT).solution.mT  # (N, D)
            anchors = (solved - norm.bias) / norm.weight
            tokens = inputs[0]
            cls, patches = tokens[:, :1], tokens[:, 1:]
            similarity = F.normalize(patches.detach(), dim=-1) @ F.normalize(anchors.detach(), dim=-1).mT
            order = similarity.amax(-1).argsort(dim=-1, descending=True, stable=True)
            count = patches.shape[1]
            head, tail = order[:, : int(HEAD * count + 1e-9)], order[:, count - int(TAIL * count + 1e-9) :]
            nearest, farthest = similarity.argmax(-1).gather(1, head), similarity.argmin(-1).gather(1, tail)
            width = patches.shape[-1]
            pull, push = self.strengths[:, block]
            patches = patches.scatter_add(1, head[..., None].expand(-1, -1, width), pull * anchors[nearest])
            patches = patches.scatter_add(1, tail[..., None].expand(-1, -1, width), -push * anchors[farthest])
            return (torch.cat([cls, patches], dim=1), *inputs[1:])

        return align
