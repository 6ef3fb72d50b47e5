"""Encoders of the field: repositories whose format farshot reads, and what was checked of each format.

No real weights were at hand: every format is checked against the true library's numbers for a tiny random
model in the same files. Free of PyTorch, so that the list is shown at once.
"""

from __future__ import annotations

from typing import NamedTuple

GOLDEN = "tiny model, numbers of the true library"
ORACLE = "tiny random model against transformers"
LAYOUT = "key names from timm's sources, no numbers"


TOY = "mini"
TOY_NOTE = "mini is a toy: it was trained on drawn pictures and is poor at photographs."


def toy_note(model: str) -> str:
    """What to say wherever a model is named; empty for real encoders."""
    return TOY_NOTE if model == TOY else ""


class KnownEncoder(NamedTuple):
    """One row of `farshot encoders`.

    Attributes:
        model: as `--model` takes it.
        format: in words.
        checked: how reading this format was checked.
        text: whether it has a text tower.
    """

    model: str
    format: str
    checked: str
    text: bool = True


ENCODERS = (
    KnownEncoder("openai/clip-vit-base-patch16", "transformers CLIP", GOLDEN),
    KnownEncoder("vinid/plip", "transformers CLIP", GOLDEN),
    KnownEncoder("flaviagiammarino/pubmed-clip-vit-base-patch32", "transformers CLIP", GOLDEN),
    KnownEncoder("geolocal/StreetCLIP", "transformers CLIP", GOLDEN),
    KnownEncoder("facebook/metaclip-2-worldwide-huge-quickgelu", "transformers MetaCLIP 2", GOLDEN),
    KnownEncoder("google/siglip-base-patch16-224", "transformers SigLIP", GOLDEN),
    KnownEncoder("google/medsiglip-448", "transformers SigLIP", GOLDEN),
    KnownEncoder("google/siglip2-base-patch16-224", "transformers SigLIP 2", GOLDEN),
    KnownEncoder("hf-hub:imageomics/bioclip", "open_clip", GOLDEN),
    KnownEncoder("hf-hub:imageomics/bioclip-2", "open_clip", GOLDEN),
    KnownEncoder("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip", GOLDEN),
    KnownEncoder("hf-hub:wisdomik/QuiltNet-B-32", "open_clip", GOLDEN),
    KnownEncoder("hf-hub:redlessone/DermLIP_ViT-B-16", "open_clip", GOLDEN),
    KnownEncoder("hf-hub:apple/DFN2B-CLIP-ViT-L-14", "open_clip", GOLDEN),
    KnownEncoder(
        "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "open_clip, timm, BERT", GOLDEN
    ),
    KnownEncoder("hf-hub:timm/ViT-B-16-SigLIP2", "open_clip, timm SigLIP", GOLDEN),
    KnownEncoder("hf-hub:timm/PE-Core-B-16", "open_clip, timm PE-Core", GOLDEN),
    KnownEncoder(
        "hf-hub:timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", "open_clip, timm EVA-02", GOLDEN
    ),
    KnownEncoder("hf-hub:timm/MobileCLIP2-B-OpenCLIP", "open_clip, timm MobileCLIP", GOLDEN),
    KnownEncoder("chendelong/RemoteCLIP:RemoteCLIP-ViT-B-32.pt@gelu=exact", "open_clip state dict", GOLDEN),
    KnownEncoder("Zilun/GeoRSCLIP:ckpt/RS5M_ViT-B-32.pt@gelu=quick", "open_clip state dict", GOLDEN),
    KnownEncoder("facebook/dinov2-base", "transformers DINOv2", ORACLE, text=False),
    KnownEncoder("facebook/dinov2-with-registers-base", "transformers DINOv2", ORACLE, text=False),
    KnownEncoder("facebook/dinov3-vitb16-pretrain-lvd1689m", "transformers DINOv3", ORACLE, text=False),
    KnownEncoder("timm/vit_base_patch14_dinov2.lvd142m", "timm DINOv2", LAYOUT, text=False),
)
