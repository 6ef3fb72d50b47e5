"""A damaged folder of an adapted model, or JSON of a user: one sentence with the file and the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot import FewShotClassifier, load
from farshot.app.workspace import Workspace
from farshot.app.workspace.run import last_run
from farshot.data.text import load_json
from farshot.errors import DataError, ModelError
from farshot.model.formats.files import read_json
from tests.bench_helpers import tiny_checkpoint
from tests.input_helpers import Farshot, class_folders, refusal

DEEP = "[" * 100_000 + "]" * 100_000
SETTINGS = {
    "zero-shot": {},
    "prototypes": {},
    "tip-adapter": {},
    "linear-probe": {},
    "simpleshot": {},
    "transclip": {},
    "tim": {"steps": 2},
    "clip-lora": {"steps": 1, "batch": 4},
    "prompt-lora": {"views": "none", "steps": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every kind, by the name of its method."""
    place = tmp_path_factory.mktemp("damaged")
    tiny_checkpoint(place / "clip")
    class_folders(place / "data")
    files = sorted((place / "data").rglob("*.png"))
    for method, settings in SETTINGS.items():
        made = FewShotClassifier(place / "clip", method, settings=settings, device="cpu")
        made.fit([str(file) for file in files], [file.parent.name for file in files]).save(place / method)
    return place


@pytest.fixture
def copied(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copy(method: str) -> Path:
        return Path(shutil.copytree(models / method, tmp_path / f"{method}-copy"))

    return copy


def sentence(folder: Path, file: str) -> str:
    """What `load` says; it must name the file and the way out."""
    with pytest.raises(ModelError) as refused:
        load(folder, device="cpu")
    said = str(refused.value)
    assert str(folder / file) in said, said
    assert "is damaged" in said, said
    assert "copy the folder again or adapt again" in said, said
    assert "\n" not in said, said
    return said


def each_tensor(folder: Path) -> list[tuple[Path, str]]:
    return [(file, name) for file in sorted(folder.glob("*.safetensors")) for name in load_file(file)]


@pytest.mark.parametrize("method", SETTINGS)
def test_every_tensor_that_is_missing_is_told(copied: Callable[[str], Path], method: str) -> None:
    folder = copied(method)
    for file, name in each_tensor(folder):
        whole = load_file(file)
        save_file({key: value for key, value in whole.items() if key != name}, file)
        sentence(folder, file.name)
        save_file(whole, file)


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_tensor_of_nan_or_infinity_is_told(
    copied: Callable[[str], Path], method: str, value: float
) -> None:
    folder = copied(method)
    for file, name in each_tensor(folder):
        whole = load_file(file)
        if whole[name].numel() and whole[name].is_floating_point():
            save_file(whole | {name: torch.full_like(whole[name], value)}, file)
            assert "holds NaN or infinity" in sentence(folder, file.name)
            save_file(whole, file)


@pytest.mark.parametrize("method", SETTINGS)
def test_every_tensor_of_another_width_is_told(copied: Callable[[str], Path], method: str) -> None:
    folder = copied(method)
    for file, name in each_tensor(folder):
        whole = load_file(file)
        wider = torch.zeros([size + 1 for size in whole[name].shape] or [3])
        save_file(whole | {name: wider}, file)
        sentence(folder, file.name)
        save_file(whole, file)


@pytest.mark.parametrize("name", ["parts.safetensors", "adapter_model.safetensors"])
def test_weights_that_end_early_or_are_empty_are_told(copied: Callable[[str], Path], name: str) -> None:
    file = copied("clip-lora") / name
    whole = file.read_bytes()
    for part in (b"", whole[:4], whole[:-1], b"\xff" * 100):
        file.write_bytes(part)
        sentence(file.parent, name)


@pytest.mark.parametrize("text", ["", DEEP, "[]", "[[1, 2]]", "1", '"x"', "null", "{", '{"a": ' * 100_000])
def test_json_that_is_no_object_is_told(copied: Callable[[str], Path], text: str) -> None:
    folder = copied("zero-shot")
    (folder / "farshot.json").write_text(text)
    sentence(folder, "farshot.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["a", "a", "b"]),
        ("classes", [["a"], "b", "c"]),
        ("classes", ["a", 1, "c"]),
        ("class_names", [1, 2, 3]),
        ("descriptions", {"cat": 3}),
        ("template", "no place"),
        ("precision", "float16"),
        ("temperature", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", True),
        ("support_ids", [1]),
        ("support_groups", "x"),
        ("losses", ["x"]),
        ("losses", [[1.0], [1.0, 2.0]]),
        ("preprocessing", []),
        ("preprocessing", {"range": 3}),
        ("preprocessing", {"bands": ["x", None, 1]}),
        ("calibrate", "yes"),
        ("estimate", 3),
        ("seed", True),
        ("format", True),
        ("revision", False),
    ],
)
def test_values_that_save_does_not_write_are_told(
    copied: Callable[[str], Path], key: str, value: Any
) -> None:
    folder = copied("zero-shot")
    about = json.loads((folder / "farshot.json").read_text())
    (folder / "farshot.json").write_text(json.dumps(about | {key: value}))
    sentence(folder, "farshot.json")


@pytest.mark.parametrize(
    "change", [{"method": "no-such"}, {"settings": {"x": 1}}, {"settings": {"scale": []}}]
)
def test_a_method_that_cannot_be_made_names_the_file(copied: Callable[[str], Path], change: dict) -> None:
    folder = copied("zero-shot")
    about = json.loads((folder / "farshot.json").read_text())
    (folder / "farshot.json").write_text(json.dumps(about | change))
    with pytest.raises(ModelError, match=r"farshot\.json"):
        load(folder, device="cpu")


def test_every_command_says_the_same_sentence(
    copied: Callable[[str], Path], models: Path, tmp_path: Path, farshot: Farshot
) -> None:
    folder = copied("linear-probe")
    file = folder / "parts.safetensors"
    save_file({name: value[..., :-1].contiguous() for name, value in load_file(file).items()}, file)
    data, out = models / "data", tmp_path / "out"
    for command in (
        ("predict", folder, data),
        ("evaluate", folder, data),
        ("explain", folder, data, "--out", out),
        ("report", folder, "--data", data, "--out", tmp_path / "r.html"),
        ("export", folder, "--format", "onnx", "--out", out),
        ("pick", data, "--model", folder, "--out", out, "--count", "2"),
    ):
        assert str(file) in refusal(farshot(*command)), command
    (folder / "farshot.json").write_text(DEEP)
    for command in (("predict", folder, data), ("report", folder, "--out", tmp_path / "r.html")):
        assert str(folder / "farshot.json") in refusal(farshot(*command))


# Other JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [DEEP, "[]", "[[1, 2]]", "{"])
def test_json_of_a_checkpoint_that_is_no_object_is_told(
    models: Path, tmp_path: Path, farshot: Farshot, text: str
) -> None:
    clip = Path(shutil.copytree(models / "clip", tmp_path / "clip"))
    (clip / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_json(clip / "config.json")
    out = tmp_path / "out"
    said = farshot("adapt", models / "data", "--model", clip, "--out", out, "--method", "zero-shot")
    assert "config.json" in refusal(said)


@pytest.mark.parametrize("text", [DEEP, '{"x": ' + "1" * 5000 + "}"])
def test_json_of_a_person_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(DataError, match=r"names\.json"):
        load_json(tmp_path / "names.json")


@pytest.mark.parametrize(
    "state",
    [
        DEEP,
        "[]",
        '{"format": "x"}',
        '{"format": 1, "classes": 3, "choice": {}, "pictures": []}',
        '{"format": 1, "classes": [{"name": 3}], "choice": {}, "pictures": []}',
        '{"format": 1, "classes": [], "choice": {"model": 3}, "pictures": []}',
        '{"format": 1, "classes": [], "choice": {}, "pictures": [{"id": 1, "name": "a", "file": 2}]}',
        '{"format": 1, "classes": [], "choice": {}, '
        '"pictures": [{"id": "1", "name": "a", "file": "b", "label": "cat"}]}',
    ],
)
def test_a_damaged_state_of_the_app_is_told(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=r"state\.json is damaged"):
        Workspace(tmp_path)


@pytest.mark.parametrize("run", [DEEP, "[]", "{}", '{"certainty": 3}', '{"certainty": null, "choice": 1}'])
def test_a_damaged_run_of_the_app_is_told(tmp_path: Path, run: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.adapted.mkdir()
    (tmp_path / "run.json").write_text(run)
    with pytest.raises(DataError, match=r"run\.json is damaged"):
        last_run(workspace)
