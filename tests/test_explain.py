"""What explanations say is what the model computed; looking changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from farshot.evaluation.calibration import Limit
from farshot.explain import (
    compose,
    explain,
    explain_images,
    learned_strengths,
    panels,
    subject,
)
from farshot.explain.explanation import default_blocks
from farshot.explain.figure import fit, font
from farshot.explain.lens import Ask, look
from farshot.explain.page import About, figure_name, write_explanations
from farshot.explain.style import letter
from farshot.methods.base import Adapted
from farshot.model.find import bundled_folder
from farshot.model.tower import Pass
from farshot.world import generate, write_folder
from tests.explain_helpers import SHORT, WORLD, adapted, images_of, seen
from tests.input_helpers import Farshot
from tests.oracle import planes, transformers_clip
from tests.pages import assert_inert

# One image --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["atha", "prompt-lora", "zero-shot"])
def test_an_explanation_has_the_probabilities_of_predict_proba(method: str, queries: ImageTable) -> None:
    classifier = adapted(method, **({} if method == "zero-shot" else SHORT))
    found = list(explain_images(seen(classifier), queries, batch=4))
    expected = classifier.predict_proba(queries)
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-5)
    assert all(bool(one.moved) == (method == "atha") for one in found)


def test_a_transductive_method_is_explained_with_all_images_together(queries: ImageTable) -> None:
    classifier = adapted("transclip")
    found = list(explain_images(seen(classifier), queries, batch=2))
    expected = classifier.predict_proba(queries)
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-5)
    apart = np.concatenate([classifier.predict_proba(queries.subset([row])) for row in range(len(queries))])
    assert abs(apart - expected).max() > 0.01  # so that the order of batches would be seen


def test_looking_changes_nothing(atha: FewShotClassifier, queries: ImageTable) -> None:
    before = atha.predict_proba(queries)
    list(explain_images(seen(atha), queries, blocks=range(12)))
    np.testing.assert_array_equal(atha.predict_proba(queries), before)


def test_a_temperature_softens_the_explanations_probabilities_too(
    atha: FewShotClassifier, queries: ImageTable
) -> None:
    sharp, soft = (next(explain_images(seen(atha), queries, temperature=t)) for t in (1.0, 3.0))
    assert soft.probabilities.max() < sharp.probabilities.max()


def test_attention_is_that_of_transformers(zero_shot: FewShotClassifier, queries: ImageTable) -> None:
    encoder = zero_shot.encoder_
    pixels = queries.pixels(range(3), "squash", encoder.size)
    view = look(seen(zero_shot), np.asarray(pixels), Ask(attention=(0, 11)))
    clip = transformers_clip(encoder)
    clip.vision_model.config._attn_implementation = "eager"
    with torch.no_grad():
        normal = planes(encoder, torch.from_numpy(np.asarray(pixels)))
        told = clip.vision_model(normal, output_attentions=True).attentions
    for block in (0, 11):
        torch.testing.assert_close(view.attention[block], told[block][:, :, 0], atol=1e-5, rtol=1e-4)


def test_the_similarity_map_reads_patches_before_the_last_block_like_the_class_token(
    zero_shot: FewShotClassifier, queries: ImageTable
) -> None:
    encoder, model = zero_shot.encoder_, seen(zero_shot)
    pixels = np.asarray(queries.pixels(range(2), "squash", encoder.size))
    view = look(model, pixels, Ask(tokens=(11,)))
    clip = transformers_clip(encoder)
    by_hand = clip.visual_projection(clip.vision_model.post_layernorm(view.tokens[11]))
    texts = model.directions
    expected = torch.nn.functional.cosine_similarity(by_hand[:, :, None], texts[None, None], dim=-1)
    torch.testing.assert_close(view.similarity, expected.detach(), atol=1e-5, rtol=1e-4)


def test_shown_tokens_are_those_that_the_operator_moved(atha: FewShotClassifier, queries: ImageTable) -> None:
    """Head and tail are read off the difference that the part makes to the tokens, not from its own words."""
    model, block = seen(atha), 7
    explanation = next(explain_images(model, queries, blocks=[block]))
    moved = explanation.moved[0]
    notes: list[torch.Tensor] = []

    class Spy:
        def places(self):
            def read(tokens, _input, this):
                notes.append(tokens[0, 0, 1:].clone())
                return tokens

            return {f"vision.{block}.input": read}

    alignment = model.alignment
    assert alignment is not None
    parts = [part for part in model.parts.values() if part is not alignment]
    with torch.no_grad():
        pixels = torch.from_numpy(explanation.pixels.copy())[None, None]
        model.encoder.forward_images(pixels, Pass([*parts, Spy(), alignment, Spy()], texts=model.texts))
    change = (notes[1] - notes[0]).norm(dim=-1).numpy()
    np.testing.assert_array_equal(change > 0, moved.head | moved.tail)
    assert moved.head.sum() == moved.tail.sum() == 6
    with torch.no_grad():
        anchors = alignment.anchors(Pass(texts=model.texts))[0]
    for patch in np.flatnonzero(moved.head):
        expected = moved.pull * anchors[moved.nearest[patch]]
        torch.testing.assert_close(notes[1][patch] - notes[0][patch], expected, atol=1e-4, rtol=1e-3)


def test_by_default_the_strongest_blocks_and_the_last_are_shown(
    atha: FewShotClassifier, zero_shot: FewShotClassifier
) -> None:
    model = seen(atha)
    found = learned_strengths(model)
    chosen = default_blocks(model)
    assert {int(abs(found.pull).argmax()), int(abs(found.push).argmax()), 11} == set(chosen)
    assert default_blocks(seen(zero_shot)) == []


def test_a_block_that_is_not_there_is_refused(atha: FewShotClassifier, queries: ImageTable) -> None:
    with pytest.raises(SettingError, match="no vision block 12: mini has blocks 0 to 11"):
        next(explain_images(seen(atha), queries, blocks=[12]))


def test_blocks_before_which_no_tokens_are_moved_are_refused(
    zero_shot: FewShotClassifier, queries: ImageTable
) -> None:
    with pytest.raises(SettingError, match="such as atha"):
        next(explain_images(seen(zero_shot), queries, blocks=[3]))
    one_block = adapted("atha", **SHORT, block=7)
    with pytest.raises(SettingError, match="before block 3, but before 7"):
        next(explain_images(seen(one_block), queries, blocks=[3, 7]))


def test_a_method_without_directions_is_explained_with_prompts(zero_shot: FewShotClassifier) -> None:
    class Silent(Adapted):
        class_names = zero_shot.adapted_.class_names

        def logits(self, table, rows=None, *, progress=None):
            return zero_shot.adapted_.logits(table, rows)

        def tensors(self):
            return {}

    found = subject(Silent(), zero_shot.encoder_)
    assert "prompts of the unadapted model" in found.origin
    torch.testing.assert_close(found.directions.cpu(), seen(zero_shot).directions.cpu())


# Figures and pages ------------------------------------------------------------------------------------

HOSTILE = ('<script>alert("x")</script>', "\"'><img src=x onerror=y>", "left\u202eright\u200f", "long " * 200)


def hostile(classifier: FewShotClassifier) -> FewShotClassifier:
    """The same classifier with names that try to break out of a page."""
    bad = FewShotClassifier("mini", "zero-shot", class_names=HOSTILE)
    table = images_of(WORLD, range(40))
    keep = [int(np.flatnonzero(table.labels == c)[0]) for c in range(4)]
    with pytest.warns(UserWarning, match="is cut"):
        return bad.fit([table.images[row] for row in keep], [0, 1, 2, 3])


def test_hostile_names_stay_names(zero_shot: FewShotClassifier, tmp_path: Path) -> None:
    bad = hostile(zero_shot)
    name = "<b onclick='x'>\u202e\"image\".png"
    Image.fromarray(generate(WORLD, "test", [3]).pixels[0]).save(tmp_path / name)
    model = seen(bad)
    about = About("<i>mini</i>", "zero-shot", model.class_names, False)
    found = explain_images(model, ImageTable((tmp_path / name,), None, (), ()))
    assert write_explanations(tmp_path / "out", found, about, model.origin) == 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    parsed = assert_inert(page)
    for hostile_name in (*HOSTILE, "<i>mini</i>", name):
        assert hostile_name in parsed.text
    # outside <bdi>, nothing can turn the direction of the page
    wrapped = ("<bdi>left\u202e", "<bdi>&lt;b onclick=&#39;x&#39;&gt;\u202e")
    assert page.count("\u202e") == sum(map(page.count, wrapped)) > 0
    assert [path.name for path in sorted((tmp_path / "out").glob("*.png"))] == ["001-b-onclick-x-image.png"]


def test_a_folder_holds_a_figure_per_image_a_page_and_the_numbers(
    atha: FewShotClassifier, queries: ImageTable, tmp_path: Path
) -> None:
    model = seen(atha)
    about = About("mini", "atha", model.class_names, False)
    first = list(explain_images(model, queries, blocks=[7]))
    write_explanations(tmp_path / "out", first, about, model.origin)
    numbers = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert len(numbers) == len(queries)
    assert numbers[0]["probabilities"] == pytest.approx(
        dict(zip(model.class_names, first[0].probabilities.tolist(), strict=True)), abs=1e-6
    )
    assert len(numbers[0]["blocks"][0]["head"]) == 6
    for one in numbers:
        with Image.open(tmp_path / "out" / one["figure"]) as figure:
            assert figure.width == 1024
    page = assert_inert((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    shown = page.values[: len(model.class_names)]
    assert sorted(shown) == pytest.approx(sorted(first[0].probabilities.tolist()))
    # again: replaced; but a folder of something else is left alone
    write_explanations(tmp_path / "out", first[:1], about, model.origin)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not a folder of explanations"):
        write_explanations(tmp_path / "other", first, about, model.origin)


def test_files_that_explain_did_not_write_are_never_deleted(
    atha: FewShotClassifier, queries: ImageTable, tmp_path: Path
) -> None:
    model, out = seen(atha), tmp_path / "out"
    about = About("mini", "atha", model.class_names, False)
    found = list(explain_images(model, queries))[:2]
    assert write_explanations(out, found, about, model.origin) == 2
    assert write_explanations(out, found[:1], about, model.origin) == 1  # its own files are replaced
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds more than a folder of explanations \(notes\.txt\)"):
        write_explanations(out, found, about, model.origin)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "explanations.json").exists()


def test_nothing_is_left_behind_when_an_image_fails(atha: FewShotClassifier, tmp_path: Path) -> None:
    model = seen(atha)

    def broken():
        yield next(explain_images(model, images_of(WORLD, range(1))))
        raise DataError("this image cannot be read")

    with pytest.raises(DataError, match="cannot be read"):
        write_explanations(tmp_path / "out", broken(), About("m", "atha", model.class_names, False), "")
    assert list(tmp_path.iterdir()) == []


def test_panels_say_in_words_what_they_show(atha: FewShotClassifier, queries: ImageTable) -> None:
    explanation = next(explain_images(seen(atha), queries, blocks=[7]))
    drawn = panels(explanation)
    titles = ["Original", "Attention", "Tokens before block 7"]
    assert [panel.title for panel in (drawn[0], *drawn[2:])] == titles
    assert "6 head, pull +0.8" in drawn[3].caption
    named = {explanation.class_names[c] for c in explanation.moved[0].nearest[explanation.moved[0].head]}
    assert all(name in drawn[3].alt for name in named)
    figure = compose(explanation, drawn)
    assert figure.width == 1024
    assert drawn[3].picture.getpixel((5, 325)) == (255, 255, 255)


def test_the_original_keeps_its_proportions(zero_shot: FewShotClassifier) -> None:
    wide = Image.new("RGB", (90, 30), (200, 0, 0))
    explanation = next(explain_images(seen(zero_shot), ImageTable((wide,), None, (), ())))
    drawn = np.asarray(panels(explanation)[0].picture)
    red = (drawn == (200, 0, 0)).all(-1)
    assert red.any(1).sum() == pytest.approx(320 / 3, abs=1)
    assert red.any(0).all()


def test_small_things_of_figures() -> None:
    assert [letter(i) for i in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
    assert figure_name(7, "/a/Ünïcode / näme!.jpg") == "007-name.png"
    assert figure_name(7, "日本.jpg") == "007.png"
    assert fit("abc\u202e\n", font(14), 1000) == "abc"
    cut = fit("W" * 500, font(14), 100)
    assert cut.endswith("…")
    assert font(14).getlength(cut) <= 100


# The command ------------------------------------------------------------------------------------------


def test_the_command_explains_and_refuses_in_one_sentence(
    tmp_path: Path, atha: FewShotClassifier, farshot: Farshot
) -> None:
    atha.save(tmp_path / "adapted")
    write_folder(WORLD, "test", range(200, 203), tmp_path / "images")
    common = ("explain", tmp_path / "adapted", tmp_path / "images", "--out", tmp_path / "out")
    code, out, err = farshot(*common, "--blocks", 3, 7)
    assert (code, out) == (0, f"3 images: {tmp_path / 'out' / 'index.html'}\n"), err
    numbers = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert [moved["block"] for moved in numbers[0]["blocks"]] == [3, 7]
    code, out, err = farshot(*common, "--blocks", 12)
    assert code == 2
    assert "no vision block 12" in err
    assert (tmp_path / "out" / "index.html").is_file()


def test_explanations_say_what_predict_says(tmp_path: Path, farshot: Farshot) -> None:
    """The labels, not the names in prompts, and whether the model is sure; no path of this computer."""
    shutil.copytree(bundled_folder("mini"), tmp_path / "base")
    table = images_of(WORLD, range(60))
    labelled = replace(table, classes=tuple(f"no {i}" for i in range(len(table.classes))))
    made = FewShotClassifier(tmp_path / "base", "zero-shot").fit(labelled.subset(labelled.draw(1, 0)[0]))
    made.limit_ = Limit(0.9, float(np.median(made.predict_proba(table.subset(range(4))).max(1))))
    made.save(tmp_path / "adapted")
    for i in range(4):
        Image.fromarray(np.asarray(table.images[i])).save(tmp_path / f"{i}.png")
    pictures = [tmp_path / f"{i}.png" for i in range(4)]
    rows = json.loads(farshot("predict", tmp_path / "adapted", *pictures, "--json").out)
    told = farshot("explain", tmp_path / "adapted", *pictures, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    found = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert [(one["class"], one["sure"]) for one in found] == [(row["class"], row["sure"]) for row in rows]
    assert {one["sure"] for one in found} == {True, False}
    for one, row in zip(found, rows, strict=True):
        assert one["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)
        assert list(one["similarity"]) == list(row["probabilities"])
        assert one["prompt_names"] == list(table.names)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count(", not sure)") == [one["sure"] for one in found].count(False)
    assert str(tmp_path / "base") not in page
    unsure = next(one for one in explain(made, pictures) if not one.sure)
    without = replace(unsure, limit=None)
    differ = ImageChops.difference(compose(unsure, panels(unsure)), compose(without, panels(without)))
    box = differ.getbbox()
    assert box is not None and box[3] < 60  # a line above the panels


def test_many_images_are_spread_over_pages(
    atha: FewShotClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farshot.explain.page.PER_PAGE", 2)
    model = seen(atha)
    found = list(explain_images(model, images_of(WORLD, range(5))))
    about = About("m", "atha", model.class_names, False)
    out = tmp_path / "out"
    assert write_explanations(out, iter(found), about, model.origin) == 5
    pages = sorted(path.name for path in out.glob("*.html"))
    assert pages == ["index.html", "page-001.html", "page-002.html", "page-003.html"]
    index = (out / "index.html").read_text(encoding="utf-8")
    assert_inert(index)
    links = re.findall(r'href="(page-\d+\.html)#(image-\d+)"', index)
    assert links == [(f"page-{n // 2 + 1:03d}.html", f"image-{n + 1}") for n in range(5)]
    for page, image in links:
        assert f'id="{image}"' in (out / page).read_text(encoding="utf-8")
    texts = [(out / page).read_text(encoding="utf-8") for page in pages[1:]]
    for text in texts:
        assert_inert(text)
    turns = [re.findall(r'href="([^"#]+)"', text) for text in texts]
    assert [len(turn) for turn in turns] == [4, 6, 4]  # above and below
    assert {link for turn in turns for link in turn} <= set(pages)
    numbers = json.loads((out / "explanations.json").read_text(encoding="utf-8"))
    assert [one["figure"] for one in numbers] == sorted(path.name for path in out.glob("*.png"))
    assert write_explanations(out, found[:1], about, model.origin) == 1  # all pages are its own
    assert sorted(path.name for path in out.glob("*.html")) == ["index.html"]


def test_explanations_of_no_image_are_an_empty_list(atha: FewShotClassifier, tmp_path: Path) -> None:
    model = seen(atha)
    write_explanations(tmp_path / "out", [], About("m", "atha", model.class_names, False), model.origin)
    assert json.loads((tmp_path / "out" / "explanations.json").read_text(encoding="utf-8")) == []
