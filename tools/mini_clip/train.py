"""Trains the mini CLIP from nothing but the mini world's photos and their captions.

    python -m tools.mini_clip.train --bf16 --out mini

Every few minutes it writes a checkpoint next to the output folder; the same command goes on from there, step
for step as if it had never stopped. At the end it writes the model to the output folder. It needs
torch.optim.Muon, which came with torch 2.9; farshot itself asks for 2.10.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from farshot.errors import FarshotError, SettingError
from farshot.world import generate
from tools.mini_clip import clip
from tools.mini_clip.contrast import choose_captions, contrast, contrast_wordings, name_grounds, patch_loss
from tools.mini_clip.evaluate import zero_shot
from tools.mini_clip.tokens import build_tokenizer, encode


@dataclass(frozen=True)
class Recipe:
    """What the weights depend on, apart from the number of threads."""

    steps: int = 3200
    batch: int = 128
    rate: float = 1.5e-3
    muon: float = 1.0  # Muon's rate in terms of AdamW's
    decay: float = 0.05
    warmup: int = 100
    clip: float = 1.0
    kept: int = 32  # of 64 patches, while patches are dropped
    full: float = 0.12  # last share of the steps, on all patches
    plain: float = 0.5  # share of captions that name the noun only
    # of the loss on patch tokens; without it the last blocks spread an image's noun over all its patches,
    # most of all over background, and patches know less than nothing of where it is
    patch_weight: float = 0.5
    # of the contrast among wordings; without it the nouns' texts fall together before images tell them apart
    text_weight: float = 0.5
    seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise SettingError("Training needs at least one step and two images in a batch.")


class Trainer:
    """One run: model, optimiser and the number of the next step."""

    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        self.recipe, self.device, self.step = recipe, torch.device(device), 0
        self.tokenizer: CLIPTokenizer = build_tokenizer()
        self.model: CLIPModel = clip.build_model(self.tokenizer, recipe.seed).to(self.device)
        if recipe.bf16 and self.device.type == "cpu":
            self.model.set_attn_implementation("float32_sdpa")
        self.optimisers = self._optimisers()

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Muon turns the blocks' matrices, a step of it worth about two of AdamW; AdamW has all the rest.

        Raises:
            SettingError: torch has no Muon.
        """
        if not hasattr(torch.optim, "Muon"):
            raise SettingError(
                f"Training the mini CLIP needs torch 2.9 or later, for torch.optim.Muon; this is torch "
                f"{torch.__version__}: pip install --upgrade torch."
            )
        r, named = self.recipe, dict(self.model.named_parameters())
        self.names = {
            "muon": [n for n, p in named.items() if p.ndim == 2 and ".layers." in n],
            "decayed": [n for n, p in named.items() if p.ndim >= 2 and ".layers." not in n],
            "free": [n for n, p in named.items() if p.ndim < 2],
        }
        matrices, decayed, free = ([named[n] for n in names] for names in self.names.values())
        groups = [{"params": decayed, "weight_decay": r.decay}, {"params": free, "weight_decay": 0.0}]
        return {
            "muon": torch.optim.Muon(
                matrices, lr=r.rate, weight_decay=r.decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            ),
            "adamw": torch.optim.AdamW(groups, lr=r.rate, betas=(0.9, 0.98), eps=1e-6),
        }

    def _states(self) -> list[tuple[str, torch.optim.Optimizer, list[str]]]:
        """Each optimiser with the names of its weights in the order of its state."""
        return [
            ("muon", self.optimisers["muon"], self.names["muon"]),
            ("adamw", self.optimisers["adamw"], self.names["decayed"] + self.names["free"]),
        ]

    def rate(self) -> float:
        """Linear warmup, then half a cosine down to zero."""
        r = self.recipe
        rising = (self.step + 1) / max(min(r.warmup, r.steps // 2), 1)
        falling = 0.5 * (1 + np.cos(np.pi * self.step / r.steps))
        return r.rate * float(min(rising, 1.0) * falling)

    def train_step(self) -> float:
        """One batch; its randomness is keyed by the step, so that a resumed run repeats it exactly."""
        r = self.recipe
        rng = np.random.Generator(np.random.Philox(key=[r.seed, self.step]))
        images = generate("photo", "train", np.arange(self.step * r.batch, (self.step + 1) * r.batch))
        texts, fits = choose_captions(images.captions, rng, r.plain)
        keep = None
        if self.step < r.steps * (1 - r.full):
            order = np.argsort(rng.random((r.batch, 64)), axis=1)[:, : r.kept]
            keep = torch.from_numpy(order).to(self.device)
        grounds, on = name_grounds(images.captions)
        ids, mask = (
            torch.from_numpy(part).to(self.device) for part in encode(self.tokenizer, texts + grounds)
        )
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=r.bf16):
            tokens = clip.image_tokens(self.model, clip.to_input(images.pixels, self.device), keep)
            joint = clip.project(self.model, tokens)
            words = clip.text_features(self.model, ids, mask)
        true, shown = (torch.from_numpy(part).to(self.device) for part in (fits, on))
        loss = self.loss(joint.float(), words[: len(texts)].float(), true, words[len(texts) :].float(), shown)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), r.clip)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rate() * (r.muon if name == "muon" else 1.0)
            optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, float(np.log(100)))
        self.step += 1
        return float(loss.detach())

    def loss(
        self,
        joint: Float[Tensor, "B tokens E"],
        words: Float[Tensor, "U E"],
        fits: Float[Tensor, "B U"],
        grounds: Float[Tensor, "G E"],
        on: Int[Tensor, " B"],
    ) -> Float[Tensor, ""]:
        """Contrast of texts with class tokens, with patches and among themselves."""
        r, scale = self.recipe, self.model.logit_scale.exp()
        total = contrast(scale * joint[:, 0] @ words.T, fits)
        total = total + r.text_weight * contrast_wordings(scale * words @ words.T, fits)
        return total + r.patch_weight * patch_loss(scale, joint[:, 1:], words, fits, grounds, on)

    def save(self, folder: Path) -> None:
        """Weights, optimiser state and step, no pickle; the old file stays until the new one is whole."""
        tensors = {f"model.{name}": p.detach().contiguous() for name, p in self.model.named_parameters()}
        for _, optimiser, names in self._states():
            for i, state in optimiser.state_dict()["state"].items():
                tensors.update({f"{key}.{names[i]}": value.contiguous() for key, value in state.items()})
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "checkpoint.part"
        save_file(tensors, part, {"farshot": json.dumps({"step": self.step, "recipe": asdict(self.recipe)})})
        part.replace(folder / "checkpoint.safetensors")

    def resume(self, folder: Path) -> bool:
        """Goes on from a checkpoint if there is one; refuses one of another recipe."""
        path = folder / "checkpoint.safetensors"
        if not path.is_file():
            return False
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        told = json.loads(header.get("__metadata__", {}).get("farshot", '{"recipe": null}'))
        if told["recipe"] != asdict(self.recipe):
            raise SettingError(
                f"{path} was made with other settings; remove it, or give the settings it was made with."
            )
        tensors = load_file(path, device=str(self.device))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        kinds = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
        for _, optimiser, names in self._states():
            state = {
                i: {key: tensors[f"{key}.{name}"] for key in kinds if f"{key}.{name}" in tensors}
                for i, name in enumerate(names)
            }
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state if told["step"] else {}})
        self.step = told["step"]
        return True


def train(trainer: Trainer, work: Path, *, every: float = 240.0, stop: int | None = None) -> None:
    """Runs to the end, or to step `stop`, with a line of progress now and then."""
    recipe, began, first, shown, saved = trainer.recipe, time.monotonic(), trainer.step, 0.0, time.monotonic()
    mean = None
    end = min(recipe.steps, stop or recipe.steps)
    while trainer.step < end:
        loss = trainer.train_step()
        mean = loss if mean is None else 0.97 * mean + 0.03 * loss
        now = time.monotonic()
        if now - shown > 20 or trainer.step == end:
            pace = (now - began) / (trainer.step - first)
            left = (recipe.steps - trainer.step) * pace / 60
            print(
                f"step {trainer.step:5d}/{recipe.steps}  loss {mean:.3f}  rate {trainer.rate():.1e}  "
                f"{pace * 1000:.0f} ms a step  {left:.1f} min left",
                flush=True,
            )
            shown = now
        if now - saved > every:
            trainer.save(work)
            right = zero_shot(trainer.model, trainer.tokenizer, "photo", range(660))[0]
            print(f"step {trainer.step:5d}  zero-shot on 660 held-out photos {100 * right:.1f} %", flush=True)
            saved = time.monotonic()
    trainer.save(work)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("mini"), help="folder for the finished model")
    parser.add_argument("--work", type=Path, help="folder for the checkpoint (default: OUT-checkpoint)")
    parser.add_argument("--steps", type=int, help=f"number of steps (default {Recipe.steps})")
    parser.add_argument(
        "--minutes", type=float, help="instead of --steps: as many as fit, by timing the first few"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--rate", type=float, default=Recipe.rate, help="highest learning rate")
    parser.add_argument("--patch-weight", type=float, default=Recipe.patch_weight)
    parser.add_argument(
        "--bf16", action="store_true", help="mixed precision: faster where the processor has it"
    )
    given = parser.parse_args()
    clip.check_place(given.out)
    torch.set_num_threads(given.threads)
    work = given.work or given.out.with_name(given.out.name + "-checkpoint")
    options = {
        "batch": given.batch,
        "rate": given.rate,
        "patch_weight": given.patch_weight,
        "bf16": given.bf16,
    }
    steps = given.steps or Recipe.steps
    if given.minutes:
        steps = _steps_that_fit(Recipe(**options), given.minutes, given.device, work)
    trainer = Trainer(Recipe(steps=steps, **options), given.device)
    print(f"{sum(p.numel() for p in trainer.model.parameters()):,} weights; {trainer.recipe}", flush=True)
    if trainer.resume(work):
        print(f"going on from step {trainer.step}", flush=True)
    began = time.monotonic()
    train(trainer, work)
    clip.export(trainer.model, trainer.tokenizer, given.out)
    print(f"trained in {(time.monotonic() - began) / 60:.1f} min; the model is written", flush=True)


def _steps_that_fit(recipe: Recipe, minutes: float, device: str, work: Path) -> int:
    """The steps for a given time; a run that goes on keeps the number it began with."""
    note = work / "steps.json"
    if note.is_file():
        return int(json.loads(note.read_text())["steps"])
    pilot = Trainer(recipe, device)
    for _ in range(3):
        pilot.train_step()
    began = time.monotonic()
    for _ in range(10):
        pilot.train_step()
    seconds = (time.monotonic() - began) / 10
    # the steps on all patches take about twice as long
    steps = int(60 * minutes / (seconds * (1 + recipe.full) * 1.02))
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"steps": steps}))
    return steps


if __name__ == "__main__":
    try:
        main()
    except FarshotError as error:
        raise SystemExit(f"farshot: {error}") from None
