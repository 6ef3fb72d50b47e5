"""What a mini CLIP knows unadapted: zero-shot accuracy on every world, and whether patches know their noun.

python -m tools.mini_clip.evaluate --model mini
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from transformers import AutoTokenizer, CLIPModel, CLIPTokenizer

from farshot.world import WORLDS, class_names, generate
from farshot.world.pools import checkpoint as bundled_checkpoint
from tools.mini_clip import clip
from tools.mini_clip.tokens import encode

TEMPLATE = "a photo of a {}."


def class_texts(model: CLIPModel, tokenizer: CLIPTokenizer, world: str) -> torch.Tensor:
    """Text features of a world's classes (N, E)."""
    ids, mask = encode(tokenizer, [TEMPLATE.format(name) for name in class_names(world)])
    device = model.logit_scale.device
    return clip.text_features(model, torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))


@torch.no_grad()
def zero_shot(
    model: CLIPModel, tokenizer: CLIPTokenizer, world: str, indices: Sequence[int], split: str = "test"
) -> tuple[float, np.ndarray]:
    """Top-1 accuracy over all classes of a world, and each class's own (N,), nan for one that is missing."""
    model.eval()
    texts = class_texts(model, tokenizer, world)
    right, labels = [], []
    for start in range(0, len(indices), 100):
        images = generate(world, split, indices[start : start + 100])
        tokens = clip.image_tokens(model, clip.to_input(images.pixels, texts.device))
        guess = (clip.project(model, tokens[:, 0]) @ texts.T).argmax(dim=1).cpu().numpy()
        right.append(guess == images.labels)
        labels.append(images.labels)
    hits, of = np.concatenate(right), np.concatenate(labels)
    each = [hits[of == c].mean() if (of == c).any() else np.nan for c in range(len(texts))]
    return float(hits.mean()), np.array(each)


@torch.no_grad()
def patch_auc(
    model: CLIPModel, tokenizer: CLIPTokenizer, world: str, indices: Sequence[int], block: int = -1
) -> float:
    """Mean over images of the AUC with which cosine to the noun's text tells its patches from background.

    Args:
        block: -1 reads the projected patch tokens after the last block, -2 those before it.
    """
    model.eval()
    texts = class_texts(model, tokenizer, world)
    areas = []
    for start in range(0, len(indices), 100):
        images = generate(world, "test", indices[start : start + 100])
        if block == -1:
            tokens = clip.image_tokens(model, clip.to_input(images.pixels, texts.device))
        else:
            seen = model.vision_model(clip.to_input(images.pixels, texts.device), output_hidden_states=True)
            tokens = seen.hidden_states[block]
        own = texts[torch.from_numpy(images.labels).to(texts.device)]
        alike = (clip.project(model, tokens[:, 1:]) @ own[:, :, None])[..., 0].cpu().numpy()
        for score, truth in zip(alike, images.truth.reshape(len(images), -1) >= 0, strict=True):
            inside = int(truth.sum())
            if 0 < inside < truth.size:
                above = rankdata(score)[truth].sum() - inside * (inside + 1) / 2
                areas.append(above / (inside * (truth.size - inside)))
    return float(np.mean(areas))


def report(model: CLIPModel, tokenizer: CLIPTokenizer, count: int) -> str:
    """The table of docs/mini-world.md."""
    lines = [
        f"{count} held-out images of each world, all its classes, template '{TEMPLATE}'",
        "",
        f"{'world':11s} {'classes':>7s} {'chance':>7s} {'top-1':>7s} {'weakest classes'}",
    ]
    for world in WORLDS:
        names = class_names(world)
        share, each = zero_shot(model, tokenizer, world, range(count))
        weak = ", ".join(
            f"{names[c]} {100 * each[c]:.0f}" for c in np.argsort(np.nan_to_num(each, nan=2))[:4]
        )
        lines.append(f"{world:11s} {len(names):7d} {100 / len(names):6.1f}% {100 * share:6.1f}%  {weak}")
    lines += ["", f"{'patch AUC':11s} {'last block':>10s} {'before it':>10s}"]
    for world in WORLDS:
        last, before = (
            patch_auc(model, tokenizer, world, range(min(count, 600)), block) for block in (-1, -2)
        )
        lines.append(f"{world:11s} {last:10.3f} {before:10.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=bundled_checkpoint(),
        help="folder of a mini CLIP, or of a checkpoint of one",
    )
    parser.add_argument("--count", type=int, default=2000, help="images of each world")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    checkpoint = given.model / "checkpoint.safetensors"
    if checkpoint.is_file():
        from safetensors.torch import load_file

        from tools.mini_clip.tokens import build_tokenizer

        tokenizer = build_tokenizer()
        model = clip.build_model(tokenizer)
        tensors = load_file(checkpoint)
        model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
    else:
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        model = CLIPModel.from_pretrained(given.model, dtype=torch.float32)
    print(report(model, tokenizer, given.count))


if __name__ == "__main__":
    main()
