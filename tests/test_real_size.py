"""A ViT-B/16 of the hub's format goes through the commands: the real code path at real size."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from typer.testing import CliRunner

from farshot.cli.root import app
from farshot.storage.model_folder import read_folder
from farshot.world import generate
from tests.checkpoints import END, copy_tokenizer

TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 12}
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}


@pytest.mark.slow
def test_a_vit_b_16_adapts_saves_and_predicts(tmp_path: Path):
    ends = {"bos_token_id": END - 1, "eos_token_id": END, "pad_token_id": END}
    config = CLIPConfig(
        text_config=TEXT | ends, vision_config=VISION | {"patch_size": 16}, projection_dim=512
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path / "vit-b-16")
    copy_tokenizer(tmp_path / "vit-b-16")
    for i, pixels in enumerate(generate("mini-land", "test", range(4)).pixels):
        place = tmp_path / "images" / ("left" if i % 2 else "right")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((300, 260)).save(place / f"{i}.png")
    words = ["adapt", tmp_path / "images", "--model", tmp_path / "vit-b-16", "--shots", "1"]
    words += ["--method", "atha", "--set", "steps=3", "--out", tmp_path / "adapted"]
    run = CliRunner().invoke(app, [str(word) for word in words])
    assert run.exit_code == 0, run.output
    about, tensors = read_folder(tmp_path / "adapted")
    assert len(about["losses"]) == 3
    assert tensors["lora.down.vision_11_q"].shape == (1, 16, 768)
    run = CliRunner().invoke(
        app, ["predict", str(tmp_path / "adapted"), str(tmp_path / "images" / "left"), "--csv"]
    )
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[0] == "image,class,left,right,p_value"
    assert len(run.output.splitlines()) == 3
