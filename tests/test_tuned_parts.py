"""Learned prompts and a tower's own weights, each against transformers' model put together by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPModel

from farshot import FewShotClassifier
from farshot.errors import SettingError
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.model.tokenizer import PromptCutWarning
from farshot.model.tower import Pass
from farshot.parts.part import one_task
from farshot.parts.prompt import LinkedPrompts, PromptContext, VisualPrompts
from farshot.parts.reweighting import TokenReweighting, claim_factors
from farshot.parts.weights import OwnWeights
from tests.oracle import planes, transformers_clip
from tests.toy import world_table

TABLE = world_table(count=30)
PROMPTS = [["a photo of a mole.", "a photo of a long and winding road."]]
KEYS = [1, 2]
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def pixels(rows: list[int], tasks: int = 2) -> torch.Tensor:
    return torch.from_numpy(TABLE.pixels(rows, "squash", 64)).expand(tasks, -1, -1, -1, -1)


def moved(part: nn.Module, std: float = 0.05) -> nn.Module:
    """The part, away from its start, differently for each task."""
    with torch.no_grad():
        for seed, value in enumerate(part.parameters()):
            value += std * torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    return part


def modules_of(clip: CLIPModel, tower: str) -> dict[str, nn.Module]:
    """transformers' linear layers and norms, by our places."""
    model = getattr(clip, f"{tower}_model")
    out: dict[str, nn.Module] = {}
    for i, block in enumerate(model.encoder.layers):
        out |= {
            f"{tower}.{i}.{name}": getattr(block.self_attn, f"{name}_proj") for name in ("q", "k", "v", "out")
        }
        out |= {f"{tower}.{i}.norm1": block.layer_norm1, f"{tower}.{i}.norm2": block.layer_norm2}
        out |= {f"{tower}.{i}.fc1": block.mlp.fc1, f"{tower}.{i}.fc2": block.mlp.fc2}
    if tower == "text":
        return out | {"text.final_norm": model.final_layer_norm, "text.projection": clip.text_projection}
    out |= {"vision.pre_norm": model.pre_layrnorm, "vision.final_norm": model.post_layernorm}
    return out | {"vision.projection": clip.visual_projection}


def run(blocks, tokens: torch.Tensor, replaced: dict[int, torch.Tensor], at: int, mask=None) -> torch.Tensor:
    """Blocks of transformers' model in a row; before some of them, tokens from `at` on are replaced."""
    for index, block in enumerate(blocks):
        if index in replaced:
            prompts = replaced[index].expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :at], prompts, tokens[:, at + prompts.shape[1] :]], dim=1)
        tokens = block(tokens, attention_mask=mask)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    return tokens


def seen_by_hand(mini: Encoder, images: torch.Tensor, prompts: list[torch.Tensor]) -> torch.Tensor:
    """Image embeddings with prompts behind the patches, the first before the first norm."""
    clip = transformers_clip(mini)
    tower = clip.vision_model
    tokens = tower.embeddings(planes(mini, images[0]))
    count = tokens.shape[1]
    tokens = tower.pre_layrnorm(torch.cat([tokens, prompts[0].expand(len(tokens), -1, -1)], dim=1))
    tokens = run(tower.encoder.layers, tokens, dict(enumerate(prompts[1:], start=1)), count)
    return clip.visual_projection(tower.post_layernorm(tokens[:, 0]))


@torch.no_grad()
def test_visual_prompts_stand_behind_the_patches_and_change_from_block_to_block(mini: Encoder):
    part, images = moved(VisualPrompts(mini, KEYS, count=3, depth=5)), pixels([0, 1])
    seen = mini.forward_images(images, Pass([part]))
    for t in range(2):
        torch.testing.assert_close(seen[t], seen_by_hand(mini, images, list(part.values[t])), **CLOSE)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)
    torch.testing.assert_close(
        mini.forward_images(images[1:], Pass([one_task(part, 1)])), seen[1:], rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_linked_prompts_are_the_texts_tokens_and_their_linear_image(mini: Encoder):
    context = PromptContext(mini, ["a photo of a {}."] * 2, length=2)
    part = moved(LinkedPrompts(mini, context, KEYS, depth=9))
    depth = mini.text_depth  # the shallower tower's
    assert part.deeper.shape[1] == depth - 1
    images, prompts = pixels([0, 1]), mini.prompts(PROMPTS * 2)
    seen, told = mini.forward_images(images, Pass([part])), mini.forward_texts(prompts, Pass([part])).final
    clip = transformers_clip(mini)
    tower = clip.text_model
    for t in range(2):
        words = [context.values[t], *part.deeper[t]]
        linked = [w @ part.weight[t, i].T + part.bias[t, i] for i, w in enumerate(words)]
        torch.testing.assert_close(seen[t], seen_by_hand(mini, images, linked), **CLOSE)
        tokens = tower.embeddings.token_embedding(prompts.ids[t])
        tokens[:, 1:3] = words[0]
        tokens = tokens + tower.embeddings.position_embedding.weight[: tokens.shape[1]]
        size = tokens.shape[1]
        mask = torch.full((size, size), float("-inf")).triu(1)[None, None]
        tokens = run(tower.encoder.layers, tokens, dict(enumerate(words[1:], start=1)), 1, mask)
        ends = tower.final_layer_norm(tokens[torch.arange(2), prompts.pooled[t]])
        torch.testing.assert_close(told[t], clip.text_projection(ends), **CLOSE)


def test_a_context_that_starts_at_random_follows_its_task(mini: Encoder):
    templates = ["a a a a {}.", "a a a a {}."]
    first, again = (PromptContext(mini, templates, keys=KEYS).values for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(PromptContext(mini, templates[:1], keys=KEYS[1:]).values[0], first[1])
    assert 0.015 < first.std() < 0.025


@torch.no_grad()
def test_a_context_of_each_class_is_that_of_the_class_alone(mini: Encoder):
    template = "a a a {}."
    words = [template.format(name) for name in ("mole", "long road")]
    own = PromptContext(mini, [template], keys=KEYS[:1], classes=2)
    together = mini.forward_texts(mini.prompts([words]), Pass([own])).final[0]
    for c, word in enumerate(words):
        shared = PromptContext(mini, [template], keys=KEYS[:1])
        shared.values.copy_(own.values[:, c])
        alone = mini.forward_texts(mini.prompts([[word]]), Pass([shared])).final[0, 0]
        torch.testing.assert_close(together[c], alone, **CLOSE)
    assert not torch.equal(own.values[0, 0], own.values[0, 1])
    begun = PromptContext(mini, [template], classes=2)  # all from the same words
    assert torch.equal(begun.values[0, 0], begun.values[0, 1])


def test_a_context_longer_than_the_words_before_the_class_is_refused(mini: Encoder):
    with pytest.raises(SettingError, match="needs 3 words"):
        PromptContext(mini, ["a {}."], length=3)


@pytest.mark.parametrize(("towers", "matrices"), [(("vision", "text"), False), (("vision",), True)])
@torch.no_grad()
def test_own_weights_are_the_model_with_these_weights(mini: Encoder, towers, matrices):
    part = moved(OwnWeights(mini, 2, towers, matrices=matrices), std=0.02)
    images, prompts = pixels([0, 1, 2]), mini.prompts(PROMPTS * 2)
    seen, told = mini.forward_images(images, Pass([part])), mini.forward_texts(prompts, Pass([part]))
    for t in range(2):
        clip = transformers_clip(mini)
        changed = 0
        for tower in towers:
            for place, module in modules_of(clip, tower).items():
                for kind in ("weight", "bias"):
                    name = f"{place}.{kind}".replace(".", "_")
                    if name in part.own:
                        getattr(module, kind).copy_(part.own[name][t])
                        changed += 1
        if matrices:
            embedding = clip.vision_model.embeddings
            patch = part.own["vision_embedding_patch"][t]
            embedding.patch_embedding.weight.copy_(patch.view_as(embedding.patch_embedding.weight))
            embedding.class_embedding.copy_(part.own["vision_embedding_class"][t])
            embedding.position_embedding.weight.copy_(part.own["vision_embedding_position"][t])
            changed += 3
            assert changed == len(list(clip.vision_model.parameters())) + 1  # and the projection
        assert changed == len(list(part.parameters()))
        pictured = clip.visual_projection(clip.vision_model(planes(mini, images[0])).pooler_output)
        torch.testing.assert_close(seen[t], pictured, **CLOSE)
        ids = mini.prompts(PROMPTS).ids[0]
        worded = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
        torch.testing.assert_close(told.final[t], worded, **CLOSE)
        merged = mini.with_tensors(one_task(part, t).merged_tensors(mini))
        torch.testing.assert_close(seen[t], merged.forward_images(images[:1])[0], **CLOSE)
        torch.testing.assert_close(
            told.final[t], merged.forward_texts(mini.prompts(PROMPTS)).final[0], **CLOSE
        )
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)


@torch.no_grad()
def test_own_weights_start_as_the_model_and_average_back_to_it(mini: Encoder):
    images = pixels([0, 1], tasks=1)
    before = mini.forward_images(images)
    part = OwnWeights(mini, 1, ["vision"], matrices=True)
    torch.testing.assert_close(mini.forward_images(images, Pass([part])), before, rtol=1e-4, atol=1e-4)
    start = {name: value.clone() for name, value in part.own.items()}
    trained = {name: value.clone() for name, value in moved(part).own.items()}
    part.average(0.25)
    for name, value in part.own.items():
        torch.testing.assert_close(value.data, 0.75 * start[name] + 0.25 * trained[name])


@torch.no_grad()
def test_a_small_step_is_not_lost_in_half_precision() -> None:
    """Next to 4, bfloat16 knows no number closer than 4.03."""
    half = load_encoder("mini", precision="bf16")
    half.vision.tensors["blocks.5.fc1.bias"].fill_(4.0)
    part = OwnWeights(half, 1, ["vision"])
    images = pixels([0], tasks=1)
    before = half.forward_images(images, Pass([part]))
    part.own["vision_5_fc1_bias"] += 0.01
    assert not torch.equal(half.forward_images(images, Pass([part])), before)


def test_claims_of_five_classes_double_one_and_blank_all():
    """The authors' case: 1 - 0.5 (c - 3); counted by a loop."""
    similarity = torch.randn(2, 3, 20, 5, generator=torch.Generator().manual_seed(0))
    factors = claim_factors(similarity, 0.3)
    for t in range(2):
        for b in range(3):
            claims = [0] * 20
            for j in range(5):
                ranked = sorted(range(20), key=lambda i: -similarity[t, b, i, j])
                for i in ranked[:6]:
                    claims[i] += 1
            expected = [1.0 if c == 0 else 1 - 0.5 * (c - 3) for c in claims]
            assert factors[t, b].tolist() == pytest.approx(expected)
    assert claim_factors(torch.ones(1, 4, 5), 0.25).tolist() == [[0.0, 1.0, 1.0, 1.0]]
    assert claim_factors(torch.eye(4)[None, :, :3], 0.25).tolist() == [[2.0, 2.0, 2.0, 1.0]]


@torch.no_grad()
def test_reweighting_multiplies_patches_read_out_like_the_class_token(mini: Encoder):
    texts, images = mini.forward_texts(mini.prompts(PROMPTS)), pixels([0, 1, 2], tasks=1)
    part, clip = TokenReweighting(mini, [4], 0.3), transformers_clip(mini)
    tower = clip.vision_model
    seen = mini.forward_images(images, Pass([part], texts=texts))[0]
    tokens = tower.pre_layrnorm(tower.embeddings(planes(mini, images[0])))
    tokens = run(tower.encoder.layers[:4], tokens, {}, 0)
    out = clip.visual_projection(tower.post_layernorm(tokens[:, 1:]))
    cosine = torch.cosine_similarity(out[:, :, None], texts.tap[0], dim=-1)
    tokens[:, 1:] *= claim_factors(cosine, 0.3)[..., None]
    tokens = run(tower.encoder.layers[4:], tokens, {}, 0)
    expected = clip.visual_projection(tower.post_layernorm(tokens[:, 0]))
    torch.testing.assert_close(seen, expected, **CLOSE)


@pytest.mark.parametrize(
    ("method", "settings", "template"),
    [
        ("coop", {"context": 75}, "a photo of a {}."),
        ("prompt-lora", {}, "a photo " * 50 + "{}"),
        ("maple", {"tokens": 90}, "a photo " * 50 + "{}"),
    ],
)
def test_more_learnable_tokens_than_a_prompt_has_room_for_are_refused(method, settings, template):
    made = FewShotClassifier("mini", method, settings={"steps": 1, **settings}, template=template)
    with pytest.raises(SettingError, match=r"\d+ learnable tokens take more than the 74 for which"):
        made.fit(list(TABLE.images), list(TABLE.labels))


def test_vtt_takes_any_template_that_leaves_room_for_the_name():
    settings, images, labels = {"steps": 1}, list(TABLE.images), list(TABLE.labels)
    made = FewShotClassifier("mini", "vtt", settings=settings, template="a photo of a {} in {place}.")
    assert np.isfinite(made.fit(images, labels).predict_proba(images)).all()
    made.set_params(template="a photo " * 50 + "{}")
    with (
        pytest.raises(SettingError, match="so long that the class name is cut off"),
        pytest.warns(PromptCutWarning),
    ):
        made.fit(images, labels)
