"""The encoder: the same numbers as transformers, and parts that leave no trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel

from farshot.data.table import ImageTable
from farshot.errors import FarshotError, ModelError
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, image_features
from farshot.model.find import bundled_folder, load_encoder
from farshot.model.tokenizer import PromptCutWarning
from farshot.model.tower import Pass
from farshot.parts.lora import LoRA
from tests.oracle import transformers_clip

MINI = bundled_folder("mini")
PROMPTS = [["a photo of a mole.", "a photo of a very long and winding road through the old forest."]]


def pixels(size: int, count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (1, count, size, size, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


@pytest.fixture(scope="module")
def random_clip(checkpoint: Path) -> Encoder:
    return load_encoder(checkpoint)


# how transformers 5.10 reads a vocabulary is deprecated by tokenizers
@pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0. BPE.__init__:DeprecationWarning")
@torch.no_grad()
@pytest.mark.parametrize("which", ["mini", "random"])
def test_the_towers_compute_what_transformers_does(which, request):
    encoder = request.getfixturevalue("mini" if which == "mini" else "random_clip")
    images = pixels(encoder.size)
    place = MINI if which == "mini" else request.getfixturevalue("checkpoint")
    clip = CLIPModel.from_pretrained(place, dtype=torch.float32)
    means = (encoder.preprocessing.mean, encoder.preprocessing.std)
    mean, std = (torch.tensor(x)[:, None, None] for x in means)
    planes = (images[0].permute(0, 3, 1, 2) / 255 - mean) / std
    theirs = clip.visual_projection(clip.vision_model(planes).pooler_output)
    torch.testing.assert_close(encoder.forward_images(images)[0], theirs, rtol=1e-4, atol=1e-4)

    prompts = encoder.prompts(PROMPTS)
    theirs_tokens = AutoTokenizer.from_pretrained(place)
    tokens = theirs_tokens(PROMPTS[0], padding="max_length", max_length=77, return_tensors="pt")
    their_texts = clip.text_projection(clip.text_model(**tokens).pooler_output)
    torch.testing.assert_close(encoder.forward_texts(prompts).final[0], their_texts, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_text_runs_at_the_length_of_the_longest_prompt(random_clip: Encoder):
    short = random_clip.prompts([["a dog", "a cat"]])
    assert short.ids.shape[-1] == 4  # start, two words, end
    both = random_clip.prompts([["a mole", "a photo of a very long prompt indeed"]])
    one = random_clip.forward_texts(random_clip.prompts([["a mole"]])).final
    torch.testing.assert_close(random_clip.forward_texts(both).final[:, :1], one, rtol=1e-4, atol=1e-5)


def test_a_prompt_too_long_is_cut_with_a_warning(random_clip: Encoder):
    with pytest.warns(PromptCutWarning, match="reads 77"):
        prompts = random_clip.prompts([["word " * 100]])
    assert prompts.ids.shape[-1] == 77
    assert int(prompts.ids[0, 0, -1]) == 49407


@torch.no_grad()
def test_parts_leave_no_trace(mini: Encoder):
    images, prompts = pixels(64), mini.prompts(PROMPTS)
    before = mini.forward_images(images), mini.forward_texts(prompts).final
    lora = LoRA(mini, [1], rank=2, alpha=8)
    for up in lora.up.values():
        up.normal_()
    assert not torch.equal(mini.forward_images(images, Pass([lora])), before[0])
    assert not torch.equal(mini.forward_texts(prompts, Pass([lora])).final, before[1])
    assert torch.equal(mini.forward_images(images), before[0])
    assert torch.equal(mini.forward_texts(prompts).final, before[1])


def test_a_pass_that_is_interrupted_leaves_no_trace(mini: Encoder):
    class Interrupted:
        def places(self):
            return {"vision.3.q": self.stop}

        def stop(self, *_given):
            raise KeyboardInterrupt

    images = pixels(64)
    before = mini.forward_images(images)
    with pytest.raises(KeyboardInterrupt):
        mini.forward_images(images, Pass([Interrupted()]))
    assert torch.equal(mini.forward_images(images), before)


def test_an_image_is_encoded_once(mini_encoder: Encoder, monkeypatch):
    encoder, cache = load_encoder("mini"), FeatureCache()
    images = pixels(64, 4)[0].numpy()
    table = ImageTable(tuple(images), None, (), ())
    first = image_features(encoder, table, [0, 1, 2], cache=cache)
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(3))
    seen = []
    real = encoder.forward_images
    monkeypatch.setattr(encoder, "forward_images", lambda x, *more: seen.append(x.shape[1]) or real(x, *more))
    again = image_features(encoder, table, [2, 3, 0], cache=cache)
    assert seen == [1]
    assert torch.equal(again[[2, 0]], first[[0, 2]])


@torch.no_grad()
def test_bf16_is_near_float32(mini: Encoder):
    half = load_encoder("mini", precision="bf16")
    images, prompts = pixels(64), mini.prompts(PROMPTS)
    found = half.forward_images(images), half.forward_texts(prompts).final
    expected = mini.forward_images(images), mini.forward_texts(prompts).final
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert F.cosine_similarity(a, b, dim=-1).min() > 0.99


@torch.no_grad()
def test_the_tap_is_what_the_text_tower_says_without_its_last_block(mini: Encoder):
    prompts = mini.prompts(PROMPTS)
    shorter = transformers_clip(mini)
    del shorter.text_model.encoder.layers[-1]
    expected = shorter.text_projection(shorter.text_model(input_ids=prompts.ids[0]).pooler_output)
    torch.testing.assert_close(mini.forward_texts(prompts).tap[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_parts_act_in_the_order_given(mini: Encoder):
    class Times:
        def __init__(self, factor: float, offset: float) -> None:
            self.factor, self.offset = factor, offset

        def places(self):
            return {"vision.0.q": lambda value, _source, _this: self.factor * value + self.offset}

    images, double, raised = pixels(64), Times(2.0, 0.0), Times(1.0, 1.0)

    def seen(*parts: Times) -> torch.Tensor:
        return mini.forward_images(images, Pass(parts))

    assert torch.equal(seen(double, raised), seen(Times(2.0, 1.0)))
    assert torch.equal(seen(raised, double), seen(Times(2.0, 2.0)))


def test_an_unknown_precision_is_refused():
    with pytest.raises(FarshotError, match="float32"):
        load_encoder("mini", precision="int4")


@torch.no_grad()
def test_several_tasks_share_the_frozen_weights(mini: Encoder):
    images = pixels(64, 6)
    together = mini.forward_images(images.view(2, 3, 64, 64, 3), Pass())
    alone = mini.forward_images(images)
    torch.testing.assert_close(together.flatten(0, 1), alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("texts", [[], "a moth", ["a moth", 1]], ids=str)
def test_texts_that_are_no_list_of_texts_are_refused(texts: Any, mini: Encoder):
    config.update("jaxtyping_disable", True)  # wrong types on purpose
    try:
        with pytest.raises(ModelError, match="encode_texts takes a list of texts"):
            mini.encode_texts(texts)
    finally:
        config.update("jaxtyping_disable", False)
