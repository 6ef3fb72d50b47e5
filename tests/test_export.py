"""What leaves farshot predicts what stayed, or is not written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from shutil import copyfile

import numpy as np
import onnx
import onnxruntime
import peft
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel

from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError, SettingError
from farshot.export import export, onnx_file
from farshot.export.about import check_place, load_exact, trust
from farshot.export.adapter import export_adapter
from farshot.export.checkpoint import export_checkpoint
from farshot.export.int8 import measure_cost
from farshot.export.onnx_file import export_onnx, runtime, similarities
from farshot.export.predictor import predictor
from farshot.export.torch_file import export_torch
from farshot.model.tower import Pass
from tests.input_helpers import Farshot, everything_in, no_file_larger_than, refusal
from tests.oracle import planes
from tests.toy import toy_task, world_table

TABLE = world_table(count=120)
TASK = toy_task(TABLE)
SUPPORT, QUERIES = TABLE.subset(TASK.support), TABLE.subset(TASK.query)
QUICK = {"views": "none", "steps": 3, "lora_lr": 0.02}
ONNX: dict[str, tuple[str, dict]] = {
    "atha": ("atha", QUICK),
    "tip-adapter": ("tip-adapter", {}),
    "released": ("atha", {**QUICK, "variant": "released"}),
    "prompt-lora": ("prompt-lora", QUICK),
    "linear-probe": ("linear-probe", {}),
}
Onnx = tuple[FewShotClassifier, Path]


def _saved(folder: Path, model: str | Path, method: str, settings: dict) -> FewShotClassifier:
    """As `farshot export` has it: adapted, saved, loaded."""
    FewShotClassifier(model, method, settings=settings).fit(SUPPORT).save(folder)
    return load_exact(folder)


@pytest.fixture(scope="module")
def clip_lora(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> FewShotClassifier:
    settings = {"steps": 3, "batch": 4, "lr": 0.05}
    return _saved(tmp_path_factory.mktemp("adapted") / "clip-lora", checkpoint, "clip-lora", settings)


@pytest.fixture(scope="module")
def probe(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> FewShotClassifier:
    return _saved(tmp_path_factory.mktemp("adapted") / "probe", checkpoint, "linear-probe", {})


@pytest.fixture(scope="module")
def onnx_of(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Onnx]:
    """Adapted models and the folders of their ONNX files, each of which takes seconds to make."""

    @cache
    def make(name: str) -> Onnx:
        place = tmp_path_factory.mktemp("onnx")
        made = _saved(place / "adapted", checkpoint, *ONNX[name])
        export_onnx(made, place / "out")
        return made, place / "out"

    return make


@pytest.mark.parametrize(
    "name", ["atha", *(pytest.param(name, marks=pytest.mark.slow) for name in [*ONNX][1:])]
)
def test_an_onnx_file_predicts_the_same(onnx_of, name: str):
    """Within 1e-4, on images that the check at export did not see, one by one and in a batch."""
    made, folder = onnx_of(name)
    about = json.loads((folder / "export.json").read_text())
    run = runtime(folder / "model.onnx")
    pixels = np.asarray(QUERIES.pixels(range(len(QUERIES)), made.adapted_.reading, made.encoder_.size))
    ours, found = made.predict_proba(QUERIES), run(pixels)
    assert np.abs(found - ours).max() < 1e-4
    assert np.array_equal(found.argmax(1), ours.argmax(1))
    np.testing.assert_allclose(run(pixels[:1]), found[:1], atol=1e-6)
    assert about["checked"]["largest_difference"] < 1e-4
    assert about["input"]["shape"] == ["batch", 32, 32, 3]
    assert about["classes"] == ["highway", "orchard"]


def test_an_onnx_file_has_no_path_of_this_computer(onnx_of):
    assert (
        str(Path(onnx_file.__file__).parent.parent).encode()
        not in (onnx_of("atha")[1] / "model.onnx").read_bytes()
    )


@pytest.mark.slow
def test_an_onnx_file_alone_says_how_to_use_it(probe: FewShotClassifier, tmp_path: Path):
    """Opset and batch of the graph, and what export.json has about classes, pictures and trust."""
    about = export_onnx(probe, tmp_path / "out")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    said = session.get_modelmeta()
    kept = {name: json.loads(text) for name, text in said.custom_metadata_map.items() if "farshot." in name}
    assert kept == {f"farshot.{name}": about[name] for name in onnx_file.METADATA if name in about}
    assert kept["farshot.labelled_similarity"] and kept["farshot.temperature"] == probe.temperature_
    assert (said.producer_name, kept["farshot.opset"], kept["farshot.dynamic_batch"]) == ("farshot", 18, True)
    opsets = {one.domain: one.version for one in onnx.load(tmp_path / "out" / "model.onnx").opset_import}
    assert opsets[""] == about["opset"]
    assert session.get_inputs()[0].shape == ["batch", 32, 32, 3]


def test_the_program_beside_it_says_what_we_say(onnx_of, tmp_path: Path):
    """It imports nothing of farshot, torch or transformers; transparent and turned pictures too."""
    made, folder = onnx_of("atha")
    first = Image.fromarray(np.asarray(QUERIES.images[0]))
    clear = first.convert("RGBA").resize((50, 40))
    clear.putalpha(Image.linear_gradient("L").resize((50, 40)))
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, picture, more in (
        ("a", first, {}),
        ("b", clear, {}),
        ("c", first.crop((0, 0, 40, 64)), {"exif": turned}),
    ):
        picture.save(tmp_path / f"{name}.png", **more)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    blocker = "import sys; sys.modules.update(dict.fromkeys(('farshot', 'torch', 'transformers')));"
    program = (
        f"{blocker} import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, folder / "predict.py", *files],
        capture_output=True,
        text=True,
        check=True,
    )
    for line, file, row in zip(told.stdout.splitlines(), files, made.predict_proba(files), strict=True):
        certain = f"{100 * row.max():.1f} %" if made.calibrated_ else f"score {row.max():.3f}"
        assert line == f"{file}\t{made.classes_[row.argmax()]}\t{certain}"


def test_the_lines_on_a_checkpoints_card_say_what_we_say(clip_lora, tmp_path: Path, monkeypatch, capsys):
    """Of turned and transparent pictures, too."""
    export_checkpoint(clip_lora, tmp_path / "out")
    lines = (
        (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    )
    monkeypatch.chdir(tmp_path / "out")
    turned, clear = Image.Exif(), Image.fromarray(np.asarray(QUERIES.images[0])).convert("RGBA")
    turned[0x0112] = 6
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for picture, more in ((QUERIES.image(1).crop((0, 0, 40, 64)), {"exif": turned}), (clear, {})):
        picture.save("new.png", **more)
        found: dict = {}
        exec(lines.replace("new.jpg", "new.png"), found)
        ours = clip_lora.predict_proba(["new.png"])[0]
        np.testing.assert_allclose(found["probabilities"].numpy(), ours, atol=0.02)
        assert capsys.readouterr().out.strip() == str(clip_lora.classes_[ours.argmax()])


@pytest.mark.slow
def test_the_program_prints_sets_of_classes_that_are_numbers(tmp_path: Path):
    rows = TABLE.draw(12, 0)[0]
    numbers = [int(code) for code in TABLE.labels[rows]]
    made = FewShotClassifier("mini", "prototypes", calibrate=True)
    made.fit([TABLE.images[row] for row in rows], numbers)
    export_onnx(made, tmp_path / "out")
    TABLE.image(0).save(tmp_path / "a.png")
    told = subprocess.run(
        [sys.executable, tmp_path / "out" / "predict.py", "--coverage", "0.8", tmp_path / "a.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    (ours,) = made.predict_set([tmp_path / "a.png"], 0.8)
    assert told.stdout.rstrip().endswith("{" + ", ".join(map(str, ours)) + "}")


def test_a_checkpoint_cannot_read_with_a_range(tmp_path: Path):
    options = {"steps": 3, "batch": 4}
    made = FewShotClassifier("mini", "clip-lora", settings=options, read_options={"range": (0, 200)})
    made.fit(SUPPORT)
    with pytest.raises(ModelError, match="reads pictures with range, which transformers"):
        export_checkpoint(made, tmp_path / "out")


def test_a_fine_tuned_method_computes_p_by_the_frozen_encoder(clip_lora):
    """Of which only the weights that were adapted count a second time."""
    made = predictor(clip_lora, p_values=True)
    pixels = QUERIES.pixels(range(len(QUERIES)), clip_lora.adapted_.reading, clip_lora.encoder_.size)
    with torch.no_grad():
        probabilities, similarity = made(torch.from_numpy(np.asarray(pixels)))
        alone = predictor(clip_lora)(torch.from_numpy(np.asarray(pixels)))
    assert torch.equal(probabilities, alone)
    known = np.array(trust(clip_lora, made.outputs)["labelled_similarity"])
    p = (1 + (known <= similarity.numpy()[:, None] + 1e-6).sum(1)) / (1 + len(known))
    assert len(set(p)) > 1 and np.array_equal(p, clip_lora.familiarity(QUERIES))
    changed = clip_lora.adapted_.lora.merged_tensors(clip_lora.encoder_)["vision"].values()
    extra = _numbers(made.tensors()) - _numbers(predictor(clip_lora).tensors())
    assert extra == _numbers(changed) > 0


def _numbers(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def test_p_values_are_refused_where_there_are_none(probe, farshot: Farshot, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(probe, "familiarity_", None)
    with pytest.raises(ModelError, match="without the features of its labelled images"):
        export_onnx(probe, tmp_path / "out", p_values=True)
    with pytest.raises(SettingError, match="p_values=True is for the formats onnx, web and torch"):
        export(probe, "peft", tmp_path / "out", p_values=True)
    asked = farshot("export", tmp_path, "--format", "peft", "--p-values", "--out", tmp_path / "out")
    assert "--p-values is for --format onnx, web, torch." in refusal(asked)
    assert not everything_in(tmp_path)


def test_weights_that_one_file_cannot_hold_are_refused(clip_lora, tmp_path: Path, monkeypatch):
    """Those of the frozen encoder that differ count as well."""
    vision = 4 * _numbers(clip_lora.encoder_.vision.tensors.values())
    monkeypatch.setattr(onnx_file, "MOST_BYTES", vision)
    with pytest.raises(ModelError, match="leave out p-values if they were asked for"):
        export_onnx(clip_lora, tmp_path / "out", p_values=True)
    monkeypatch.setattr(onnx_file, "MOST_BYTES", vision - 1)
    with pytest.raises(ModelError, match=r"The weights take 0\.0 GiB, and one ONNX file holds 2"):
        export_onnx(clip_lora, tmp_path / "out")
    assert not everything_in(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings", "times"),
    [
        ("atha", QUICK, (1.2, 1.35)),
        ("coop", {"steps": 2}, (1, 1.02)),
        ("full", {"steps": 2}, (1.8, 2.02)),
        ("vpt", {"views": "none", "steps": 2}, (1, 1.06)),
    ],
)
def test_the_program_of_a_fine_tuned_method_rejects_as_we_do(
    method, settings, times, farshot: Farshot, tmp_path: Path
):
    """Its file grows by the weights that were adapted."""
    support = TABLE.subset(TABLE.draw(12, 0)[0])
    FewShotClassifier("mini", method, settings=settings).fit(support).save(tmp_path / "adapted")
    files = [tmp_path / f"{row}.png" for row in range(7)]
    for row, file in enumerate(files[:-1]):
        TABLE.image(row).save(file)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(files[-1])
    told = farshot(
        "export", tmp_path / "adapted", "--format", "onnx", "--p-values", "--out", tmp_path / "out"
    )
    assert "holds features of your labelled images" in told.out
    program = [sys.executable, tmp_path / "out" / "predict.py"]
    for option, value in (("--reject", "1.5"), ("--reject", "nan")):
        told = subprocess.run([*program, option, value], capture_output=True, text=True, check=False)
        assert f"{option} must lie between 0 and 1" in told.stderr and "Traceback" not in told.stderr
    for options in ([], ["--reject", "0.2"]):
        told = subprocess.run([*program, *options, *files], capture_output=True, text=True, check=True)
        assert told.stdout == farshot("predict", tmp_path / "adapted", *options, *files).out
    assert "none of these\t-\tp 0.040" in told.stdout
    whole = (tmp_path / "out" / "model.onnx").stat().st_size
    told = farshot("export", tmp_path / "adapted", "--format", "onnx", "--out", tmp_path / "out")
    assert times[0] < whole / (tmp_path / "out" / "model.onnx").stat().st_size < times[1]
    assert "It does not compute p-values; --p-values adds them." in told.out
    told = subprocess.run([*program, "--reject", "0.2", *files], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert "write it again with farshot export MODEL --format onnx --p-values --out FOLDER." in told.stderr


@pytest.mark.slow
def test_8_bits_of_both_encoders_hardly_change_p(tmp_path: Path):
    """Large weights are in 8 bits; class texts and features of labelled images are not."""
    support = TABLE.subset(TABLE.draw(12, 0)[0])
    made = FewShotClassifier("mini", "clip-lora", settings={"steps": 3, "batch": 4}).fit(support)
    about = export_onnx(made, tmp_path / "out", TABLE, int8=True, p_values=True)
    assert about["int8"]["int8_bytes"] < 0.35 * about["int8"]["float32_bytes"]
    similarity = similarities(tmp_path / "out" / "model.onnx")
    pixels = np.asarray(TABLE.pixels(range(len(TABLE)), made.adapted_.reading, made.encoder_.size))
    known = np.array(about["labelled_similarity"])
    p = (1 + (known <= similarity(pixels)).sum(1)) / (1 + len(known))
    assert np.abs(p - made.familiarity(TABLE)).max() < 2.5 / (1 + len(known))


def test_what_predicts_something_else_is_refused(onnx_of, tmp_path: Path, monkeypatch):
    made, folder = onnx_of("atha")

    def again(module, size, file, *arguments):
        copyfile(folder / "model.onnx", file)

    def shifted(file):
        run = runtime(file)
        return lambda pixels: run(pixels) + np.float32(2e-4)

    monkeypatch.setattr(onnx_file, "write_onnx", again)
    export_onnx(made, tmp_path / "right")
    before = everything_in(tmp_path)
    monkeypatch.setattr(onnx_file, "runtime", shifted)
    with pytest.raises(ModelError, match=r"differ from the adapted model's by up to 2\.0e-04"):
        export_onnx(made, tmp_path / "out")
    assert everything_in(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in everything_in(folder) if (folder / name).is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("export", [export_onnx, export_torch, export_checkpoint, export_adapter])
def test_an_export_onto_a_full_disk_leaves_what_was_there(export, clip_lora, tmp_path: Path):
    export_adapter(clip_lora, tmp_path / "out")
    before = contents(tmp_path)
    with (
        no_file_larger_than(5000),
        pytest.raises(DataError, match=r"out cannot be written \(.+\); free some"),
    ):
        export(clip_lora, tmp_path / "out")
    assert contents(tmp_path) == before
    assert everything_in(tmp_path) == {"out", *before}


def test_the_cost_of_8_bits_counts_copies_once_and_has_an_interval_for_two_images(checkpoint: Path):
    made = FewShotClassifier(checkpoint, "linear-probe", device="cpu").fit(TABLE.subset(range(20)))
    new = TABLE.subset(range(20, 30))

    def answer(pixels: np.ndarray) -> np.ndarray:
        return np.eye(len(made.classes_))[pixels.reshape(len(pixels), -1).sum(1) % 2]

    def other(pixels: np.ndarray) -> np.ndarray:
        return answer(pixels)[:, ::-1]

    once = measure_cost(made, answer, other, new)
    thrice = measure_cost(made, answer, other, new.subset([*range(len(new))] * 3))
    assert thrice.changed.n == 3 * once.changed.n and once.changed.mean == 1
    for name in ("float32", "int8", "difference", "changed"):
        assert getattr(thrice, name)[:3] == pytest.approx(getattr(once, name)[:3])
    two = measure_cost(made, answer, answer, new.subset([0, 1]))
    assert two.difference.mean == 0 and two.difference.low < -0.5 and two.difference.high > 0.5


@pytest.mark.parametrize(
    ("export", "last"),
    [
        pytest.param(  # both files are there
            partial(export_onnx, images=TABLE, int8=True),
            "onnx_file.measure_cost",
            marks=pytest.mark.slow,
        ),
        (export_checkpoint, "checkpoint.write_about"),
        (export_adapter, "adapter.write_about"),
    ],
    ids=["int8", "transformers", "peft"],
)
def test_an_export_that_is_interrupted_leaves_what_was_there(
    export, last, clip_lora, tmp_path: Path, monkeypatch
):
    export_adapter(clip_lora, tmp_path / "out")
    before = contents(tmp_path)

    def stop(*arguments, **options):
        written = [path for path in tmp_path.glob(".farshot-*/*") if path.stat().st_size > 5000]
        assert written
        raise KeyboardInterrupt

    monkeypatch.setattr(f"farshot.export.{last}", stop)
    with pytest.raises(KeyboardInterrupt):
        export(clip_lora, tmp_path / "out")
    assert contents(tmp_path) == before
    assert everything_in(tmp_path) == {"out", *before}


def test_nothing_else_is_overwritten(clip_lora, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an export of farshot"):
        export_onnx(clip_lora, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("clip-lora", {"steps": 3, "batch": 4, "lr": 0.05}),
        ("prompt-lora", QUICK),
        pytest.param("zero-shot", {}, marks=pytest.mark.slow),
    ],
)
def test_transformers_alone_gives_our_probabilities(method, settings, checkpoint: Path, tmp_path: Path):
    made = _saved(tmp_path / "adapted", checkpoint, method, settings)
    about = export_checkpoint(made, tmp_path / "out")
    clip = CLIPModel.from_pretrained(tmp_path / "out").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "out")(
        about["prompts"], padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    encoder = made.encoder_
    pixels = torch.from_numpy(QUERIES.pixels(range(len(QUERIES)), made.adapted_.reading, encoder.size))
    with torch.no_grad():
        logits = clip(**words, pixel_values=planes(encoder, pixels)).logits_per_image
    ours = torch.from_numpy(made.logits(QUERIES)) / made.temperature_
    torch.testing.assert_close(logits, ours, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(logits.softmax(-1), ours.softmax(-1), rtol=0, atol=1e-4)
    assert about["checked"]["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("atha", QUICK, "moves patches before the blocks"),
        pytest.param(
            "vpt", {"views": "none", "steps": 2}, "adds tokens behind the patches", marks=pytest.mark.slow
        ),
        pytest.param("linear-probe", {}, "adds a classifier on the image features", marks=pytest.mark.slow),
        ("zero-shot", {"templates": "clip"}, "averages the texts of 7 prompts"),
    ],
)
def test_what_is_no_clip_model_says_why(method, settings, words, checkpoint: Path, tmp_path: Path):
    made = _saved(tmp_path / "adapted", checkpoint, method, settings)
    with pytest.raises(ModelError, match=words) as refused:
        export_checkpoint(made, tmp_path / "out")
    assert "--format onnx" in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT and transformers
def test_peft_loads_the_adapter_alone(checkpoint: Path, tmp_path: Path):
    """All of clip-lora, and a part of prompt-lora, which says so."""
    made = _saved(tmp_path / "adapted", checkpoint, "prompt-lora", QUICK)
    about = export_adapter(made, tmp_path / "out")
    assert about["left_out"] == ["context"]
    assert "LoRA **alone**" in (tmp_path / "out" / "README.md").read_text()
    theirs = peft.PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path / "out")
    up = theirs.base_model.model.vision_model.encoder.layers[0].self_attn.q_proj.lora_B.default.weight
    torch.testing.assert_close(up.detach(), made.adapted_.lora.up["vision_0_q"][0].detach())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT and transformers
def test_peft_loads_it_where_it_acts(checkpoint: Path, tmp_path: Path):
    settings = {"steps": 2, "batch": 4, "lr": 0.05, "params": "vo", "position": "top1", "encoder": "vision"}
    made = _saved(tmp_path / "adapted", checkpoint, "clip-lora", settings)
    export_adapter(made, tmp_path / "out")
    theirs = peft.PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path / "out").eval()
    encoder = made.encoder_
    pixels = torch.from_numpy(QUERIES.pixels(range(len(QUERIES)), made.adapted_.reading, encoder.size))
    with torch.no_grad():
        features = theirs.get_image_features(planes(encoder, pixels))
        ours = encoder.forward_images(pixels[None], Pass([made.adapted_.lora]))[0]
        before = encoder.forward_images(pixels[None])[0]
    torch.testing.assert_close(getattr(features, "pooler_output", features), ours, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(before, ours, atol=1e-2)


def test_no_lora_no_adapter(probe, tmp_path: Path):
    with pytest.raises(ModelError, match="linear-probe has no LoRA"):
        export_adapter(probe, tmp_path / "out")


@pytest.mark.slow
def test_the_command_quantises_and_says_what_it_cost(farshot: Farshot, checkpoint: Path, tmp_path: Path):
    for row, image in enumerate(TABLE.images):
        place = tmp_path / "images" / TABLE.classes[TABLE.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)).save(place / f"{row}.png")
    farshot("adapt", tmp_path / "images", "--shots", 2, "--model", checkpoint, "--method", "linear-probe",
            "--out", tmp_path / "adapted")  # fmt: skip
    told = farshot("export", tmp_path / "adapted", "--format", "onnx", "--quantize", "int8",
                   "--images", tmp_path / "images", "--out", tmp_path / "out")  # fmt: skip
    assert told.code == 0, told.err
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (
        str(Path(onnx_file.__file__).parent.parent).encode()
        not in (tmp_path / "out" / "model.onnx").read_bytes()
    )
    cost = about["int8"]
    assert cost["images"] == len(TABLE) - 4  # those it was adapted to do not count
    assert cost["int8_bytes"] < cost["float32_bytes"]
    assert "In float32, before quantising, probabilities on" in told.out
    assert f"accuracy %           {100 * cost['float32']['value']:.1f}" in told.out
    assert f"difference, points   {100 * cost['difference']['mean']:+.1f} [" in told.out
    pixels = np.asarray(TABLE.pixels(range(len(TABLE)), "squash", 32))
    right = runtime(tmp_path / "out" / "model.onnx")(pixels).argmax(1) == TABLE.labels
    assert abs(right.mean() - cost["int8"]["value"]) < 0.1
    said = refusal(farshot("export", tmp_path / "adapted", "--format", "onnx", "--quantize", "int8",
                           "--out", tmp_path / "other"))  # fmt: skip
    assert "name a labelled folder with --images" in said


@pytest.fixture(scope="module")
def many() -> ImageTable:
    """Images of two classes, more than 500 in addition to those of the tasks above."""
    return world_table(count=2500)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "settings"), ONNX.values(), ids=ONNX)
def test_500_images_get_the_same_label(method, settings, many: ImageTable, tmp_path: Path):
    made = _saved(tmp_path / "adapted", "mini", method, settings)
    export_onnx(made, tmp_path / "out")
    others = many.subset(range(10, 510))
    pixels = np.asarray(others.pixels(range(500), made.adapted_.reading, made.encoder_.size))
    ours, found = made.predict_proba(others), runtime(tmp_path / "out" / "model.onnx")(pixels)
    assert np.abs(found - ours).max() < 1e-4
    assert np.array_equal(found.argmax(1), ours.argmax(1))


def test_an_export_that_was_used_can_be_replaced(checkpoint: Path, tmp_path: Path):
    """Also one whose modules Python has compiled; what is not Python's is never deleted."""
    out, file = tmp_path / "out", tmp_path / "a.png"
    made = _saved(tmp_path / "adapted", checkpoint, "prototypes", {})
    about = export_onnx(made, out)
    Image.fromarray(np.asarray(QUERIES.images[0])).save(file)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, out / "predict.py", file], check=True, env=environment)
    assert sorted(path.name for path in out.iterdir()) == about["files"]
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "decode.cpython-311.pyc").touch()
    check_place(out)
    (out / "__pycache__" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds more than an export of farshot \(__pycache__\)"):
        check_place(out)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_packages_are_enough_to_predict(tmp_path: Path):
    """In a separate environment that has onnxruntime, numpy and pillow only, wherever farshot lies."""
    made = _saved(tmp_path / "adapted", "mini", "atha", QUICK)
    export_onnx(made, tmp_path / "out")
    venv.create(tmp_path / "bare", with_pip=True)
    python = [tmp_path / "bare" / "bin" / "python", "-I"]  # PYTHONPATH does not reach it
    constraints = Path(__file__).parent.parent / "constraints.txt"
    packages = ("onnxruntime", "numpy", "pillow")
    subprocess.run([*python, "-m", "pip", "install", "-q", "-c", constraints, *packages], check=True)
    missing = (
        "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'farshot', 'transformers')])"
    )
    told = subprocess.run([*python, "-c", missing], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[None, None, None]"
    files = [tmp_path / f"{i}.png" for i in range(len(QUERIES))]
    for file, image in zip(files, QUERIES.images, strict=True):
        Image.fromarray(np.asarray(image)).save(file)
    command = [*python, tmp_path / "out" / "predict.py", *files]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, file, row in zip(told.stdout.splitlines(), files, made.predict_proba(files), strict=True):
        certain = f"{100 * row.max():.1f} %" if made.calibrated_ else f"score {row.max():.3f}"
        assert line == f"{file}\t{made.classes_[row.argmax()]}\t{certain}"
