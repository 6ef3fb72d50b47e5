"""The tiny checkpoints of published formats, with the numbers of the libraries that define them."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farshot.arrays import NDArray
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.model.tokenizer import PromptCutWarning, Prompts
from farshot.model.tower import Pass
from farshot.storage import hub

NAMES = (
    "biomedclip-like",
    "clip-hf",
    "eva02-clip-openclip",
    "metaclip2-hf",
    "mobileclip2-b-openclip",
    "openclip-bare-pt",
    "openclip-vit",
    "openclip-vit-quickgelu",
    "pe-core-openclip",
    "siglip-hf",
    "siglip-openclip",
    "siglip2-hf",
)
BARE = "RemoteCLIP-ViT-tiny.pt"

Arrays = dict[str, NDArray[Any]]


def root() -> Path:
    """The folder of all golden checkpoints, where this machine has one."""
    place = os.environ.get("FARSHOT_TEST_DATA")
    found = Path(place).parent / "golden" / "encoders" if place else Path("/nowhere")
    if not found.is_dir():
        pytest.skip("FARSHOT_TEST_DATA does not name a folder next to the golden encoders")
    return found


def expected(name: str) -> Arrays:
    """The library's numbers."""
    with np.load(root() / name / "expected.npz") as file:
        return dict(file)


def load(name: str, monkeypatch: pytest.MonkeyPatch, *, gelu: str = "exact") -> Encoder:
    """The encoder of a golden folder; the other repository that one of them names lies in `hub/`."""
    return load_from(root() / name, monkeypatch, gelu=gelu)


def load_from(place: Path, monkeypatch: pytest.MonkeyPatch, *, gelu: str = "exact") -> Encoder:
    """The encoder of a copy of a golden folder, or of one of its files."""
    monkeypatch.setattr(hub, "download", lambda repo, files, **_: root() / "hub" / repo)
    if (place / BARE).is_file():
        return load_encoder(place / BARE, gelu=gelu)
    return load_encoder(place)


def copied(name: str, to: Path, *names: str) -> Path:
    """A copy of a golden folder without its large arrays; of some files alone where they are named."""
    folder = to / name
    folder.mkdir(parents=True)
    for path in (root() / name).iterdir():
        if path.suffix != ".npz" and (not names or path.name in names):
            shutil.copy(path, folder / path.name)
            (folder / path.name).chmod(0o644)
    return folder


def prompts_of(encoder: Encoder, arrays: Arrays, ids: str = "token_ids") -> Prompts:
    """The library's token ids, read out where the library did."""
    tokens = torch.as_tensor(arrays[ids]).long()
    pooled = torch.as_tensor(arrays["text_pool_index"]).long()
    if encoder.text.config.mask_padding:
        kept = tokens != 0
    else:
        kept = torch.as_tensor(arrays.get("attention_mask", np.ones_like(arrays[ids]))).bool()
    return Prompts(tokens[None], pooled[None], kept[None])


def tokenized(encoder: Encoder, arrays: Arrays) -> Prompts:
    """The texts by the encoder's own tokenizer; one of them is far too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptCutWarning)
        return encoder.prompts([[str(text) for text in arrays["texts"]]])


@torch.no_grad()
def vision_steps(encoder: Encoder, pixels: torch.Tensor) -> Arrays:
    """All tokens between the blocks, and what follows, by the names of the golden arrays."""
    vision, this, out = encoder.vision, Pass(), {}
    tokens = vision.embed(pixels[None], this)
    for block in range(vision.config.depth):
        out[f"vision_tokens_before_block_{block}"] = tokens[0].numpy()
        tokens = vision.block(block, tokens, this)
    out["vision_tokens_after_last_block"] = tokens[0].numpy()
    out["vision_tokens_final_norm"] = vision.final_norm(tokens)[0].numpy()
    out["vision_pooled"] = vision.pool(tokens, this)[0].numpy()
    out["vision_attn_pool_out"] = out["vision_pooled"]
    return out


@torch.no_grad()
def text_steps(encoder: Encoder, prompts: Prompts) -> Arrays:
    """All tokens between the blocks of the text tower."""
    found: Arrays = {}

    class Notes:
        def places(self) -> dict[str, Any]:
            return {f"text.{block}.input": _note(block) for block in range(encoder.text_depth)}

    def _note(block: int) -> Any:
        def hook(tokens: torch.Tensor, _source: torch.Tensor, _this: Pass) -> torch.Tensor:
            found[f"text_tokens_before_block_{block}"] = tokens[0].numpy()
            return tokens

        return hook

    encoder.forward_texts(prompts, Pass([Notes()]))
    return found


def distance(found: Any, wanted: NDArray[Any]) -> float:
    """Largest difference, relative to the largest value of the wanted array."""
    values = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    return float(np.abs(values - wanted).max() / np.abs(wanted).max())
