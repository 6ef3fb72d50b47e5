"""What a file of weights says without a configuration, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farshot.errors import ModelError
from farshot.model.find import load_encoder
from farshot.model.formats.files import Source
from farshot.model.formats.native import configs_of_tensors
from tests.golden_encoders import root


def shapes(vision: int, text: int) -> dict[str, torch.Tensor]:
    """What gives the sizes of a ViT CLIP with towers of these widths, without values."""
    found = {
        "visual.conv1.weight": (vision, 3, 14, 14),
        "visual.positional_embedding": (1 + 16 * 16, vision),
        "visual.proj": (vision, 1024),
        "visual.transformer.resblocks.0.ln_1.weight": (vision,),
        "token_embedding.weight": (49408, text),
        "positional_embedding": (77, text),
        "text_projection": (text, 1024),
        "transformer.resblocks.0.ln_1.weight": (text,),
    }
    return {name: torch.empty(shape, device="meta") for name, shape in found.items()}


@pytest.mark.parametrize(
    ("vision", "heads", "text", "text_heads"), [(768, 12, 512, 8), (1024, 16, 768, 12), (1280, 16, 1024, 16)]
)
def test_the_heads_of_a_bare_file_are_those_of_the_published_tower(
    vision: int, heads: int, text: int, text_heads: int
):
    found = configs_of_tensors(Source("RS5M.pt", Path()), shapes(vision, text), "exact")
    assert [config.heads for config in found] == [heads, text_heads]


@pytest.mark.parametrize(
    ("vision", "text", "named"), [(1408, 1024, "1408"), (100, 512, "100"), (768, 96, "96")]
)
def test_a_width_that_no_published_tower_has_needs_a_configuration(vision: int, text: int, named: str):
    with pytest.raises(ModelError, match=rf"is {named} wide.*put the model's open_clip_config\.json"):
        configs_of_tensors(Source("other.pt", Path()), shapes(vision, text), "exact")


@pytest.mark.parametrize("value", ["banana", "", "Quick"])
def test_a_gelu_that_there_is_not_is_refused(value: str):
    with pytest.raises(ModelError, match=r"write @gelu=quick or @gelu=exact"):
        load_encoder(f"mini@gelu={value}")
    with pytest.raises(ModelError, match=r"write @gelu=quick or @gelu=exact"):
        load_encoder("mini", gelu=value)


def test_a_gelu_that_the_configuration_contradicts_is_refused():
    assert load_encoder("mini@gelu=exact").fingerprint == load_encoder("mini").fingerprint
    with pytest.raises(ModelError, match=r"configuration of mini says .* gelu, not @gelu=quick; leave"):
        load_encoder("mini", gelu="quick")
    place = root() / "openclip-vit" / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match=r"says .* gelu, not @gelu=quick"):
        load_encoder(f"{place}@gelu=quick")
