"""Any fault of the input gives one sentence with the path or option and what to do, exit code 2, and
nothing left half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.input_helpers import (
    QUICK,
    Farshot,
    class_folders,
    everything_in,
    no_file_larger_than,
    picture,
    refusal,
)


@pytest.fixture
def refused_adapt(farshot: Farshot, place: Path, tmp_path: Path):
    """The sentence with which `adapt` refuses; nothing may be left where it would have written."""

    def run(
        *options: str | Path, data: str | Path = place / "data", model: str | Path = place / "clip"
    ) -> str:
        (tmp_path / "outer").mkdir(exist_ok=True)
        told = farshot("adapt", data, "--model", model, "--out", tmp_path / "outer" / "out", *QUICK, *options)
        assert everything_in(tmp_path / "outer") == set()
        return refusal(told)

    return run


# Options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "stepz=5"), "has no setting 'stepz'; its settings are: steps,"),
        (("--set", "lr"), "--set takes name=value, not 'lr'; for example"),
        (("--set", "=5"), "--set takes name=value, not '=5'"),
        (("--set", "lora_lr=fast"), "The setting lora_lr of prompt-lora must be a number, not 'fast'"),
        (("--set", "lora_alpha=1.5.2"), "must be a number, not '1.5.2'"),
        (("--set", "lora_dropout=1"), "The setting lora_dropout of prompt-lora must lie in [0, 1)"),
        (("--set", "steps=3"), "--set steps is given twice"),
        (("--set", "scale=-1"), "scale of prompt-lora must be at least 0"),
        (("--set", "scale=nan"), "must be a number, not 'nan'"),
        (("--set", "lora_lr=inf"), "must be a number, not 'inf'"),
        (("--method", "atha", "--set", "align=sideways"), "align"),
        (("--method", "ahta"), "There is no method 'ahta'; choose one of: 2sfs, atha,"),
        (("--device", "gpu"), "There is no device 'gpu'"),
        (("--precision", "half"), "Unknown precision 'half'; choose one of float32, bf16"),
        (("--template", "a photo"), "'a photo' needs {} exactly once"),
        (
            ("--shots", "4"),
            "The class 'cat' has 3 images, fewer than the 4 asked for; add images or use --shots 3",
        ),
        (("--shots", "1", "--estimate"), "label at least two of every class"),
        (("--class-names", "missing.txt"), "missing.txt cannot be read"),
        (("--descriptions", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_wrong_options_of_adapt(refused_adapt, options: tuple[str, ...], words: str) -> None:
    assert words in refused_adapt(*options)


def test_a_wrong_value_of_a_whole_number(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    command = ("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out")
    for value in ("five", "2.5", "inf", "nan", "0", "-1"):
        sentence = refusal(farshot(*command, "--method", "prompt-lora", "--set", f"steps={value}"))
        assert "steps of prompt-lora must be" in sentence
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize(
    "command",
    [
        ("adapt",),
        ("adapt", "data"),
        ("adapt", "data", "--out", "x", "--shots", "0"),
        ("adapt", "data", "--out", "x", "--shots", "many"),
        ("adapt", "data", "--out", "x", "--unknown"),
        ("predict", "adapted"),
        ("evaluate", "adapted"),
        ("nonsense",),
    ],
)
def test_usage_errors_exit_with_2_and_name_the_help(farshot: Farshot, command: tuple[str, ...]) -> None:
    told = farshot(*command)
    assert told.code == 2
    assert told.out == ""
    assert "Usage: farshot" in told.err
    assert "--help" in told.err


def test_csv_and_json_at_once(farshot: Farshot, place: Path, adapted: Path) -> None:
    sentence = refusal(farshot("predict", adapted, place / "data", "--csv", "--json"))
    assert sentence == "farshot: Choose one of --csv, --json and --out."


def test_no_method_of_that_name(farshot: Farshot) -> None:
    assert "No method matches 'x*'" in refusal(farshot("methods", "x*"))


# Images and labels ---------------------------------------------------------------------------------------


def test_every_bad_image_is_in_one_list(refused_adapt, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    Image.new("1", (10001, 10000)).save(folder / "cat" / "bomb.png")
    whole = (folder / "cat" / "0.png").read_bytes()
    bad = {"cut.png": whole[:400], "empty.jpg": b"", "text.jpg": b"words" * 50}
    for name, content in bad.items():
        (folder / "dog" / name).write_bytes(content)
    sentence = refused_adapt(data=folder)
    first, *lines = sentence.splitlines()
    assert first == "farshot: 4 of 13 images cannot be read; fix or remove them, or use --skip-unreadable:"
    reasons = {line.split(":")[0].strip(): line for line in lines}
    assert "(10001 x 10000) is over 100 megapixels" in reasons[str(folder / "cat" / "bomb.png")]
    assert "truncated or damaged" in reasons[str(folder / "dog" / "cut.png")]
    assert "the file is empty" in reasons[str(folder / "dog" / "empty.jpg")]
    assert "not an image in a known format" in reasons[str(folder / "dog" / "text.jpg")]


def test_too_few_classes_or_images(refused_adapt, tmp_path: Path) -> None:
    assert "at least two classes" in refused_adapt(data=class_folders(tmp_path / "one", ("cat",)))
    folder = class_folders(tmp_path / "data")
    (folder / "empty").mkdir()
    assert f"{folder / 'empty'} holds no image" in refused_adapt(data=folder)
    assert "There is no" in refused_adapt(data=tmp_path / "missing")


def test_predict_names_every_bad_image_and_can_skip_them(
    farshot: Farshot, adapted: Path, tmp_path: Path
) -> None:
    picture(0).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    told = farshot("predict", adapted, tmp_path)
    assert (told.code, told.out.count("\n")) == (2, 1)  # the others are predicted
    assert told.out.startswith(f"{tmp_path / 'good.png'}\t")
    assert "1 of 2 images cannot be read" in told.err
    assert f"{tmp_path / 'bad.png'}: the file is empty" in told.err
    told = farshot("predict", adapted, tmp_path, "--skip-unreadable", "--csv")
    assert told.code == 0
    assert told.err == "1 unreadable image is left out.\n"
    assert len(told.out.splitlines()) == 2
    assert "None of the 1 images can be read" in refusal(
        farshot("predict", adapted, tmp_path / "bad.png", "--skip-unreadable")
    )
    assert "None" not in refusal(farshot("predict", adapted, tmp_path / "bad.png", "--csv"))
    assert "check the path" in refusal(farshot("predict", adapted, tmp_path / "none.png"))


def test_an_unknown_label_in_evaluation(farshot: Farshot, adapted: Path, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("cat", "unicorn"), start=500)
    sentence = refusal(farshot("evaluate", adapted, folder))
    assert "'unicorn' is not one of the classes it was adapted to (cat, dog, owl)" in sentence


def test_nothing_left_to_evaluate_on(farshot: Farshot, place: Path, adapted: Path) -> None:
    sentence = refusal(farshot("evaluate", adapted, place / "data"))
    assert "All these images were used for adapting: evaluate on others, or use --include-support" in sentence


def test_images_that_make_pillow_warn_are_images(
    farshot: Farshot, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    picture(1, 8, 8).save(tmp_path / "exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12")
    picture(2, 12, 12).save(tmp_path / "large.png")
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 100
    )  # from here on Pillow warns of a bomb, at 200 it refuses
    told = farshot("predict", adapted, tmp_path)
    assert (told.code, told.err, len(told.out.splitlines())) == (0, "", 3)


# Base models ---------------------------------------------------------------------------------------------


def test_a_mistyped_model_is_refused_before_any_image_is_read(farshot: Farshot, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "damaged.png").write_bytes(b"no image")
    out = ("--out", tmp_path / "out", "--model", tmp_path / "mistyped")
    for command in (("adapt", tmp_path / "data"), ("pick", tmp_path / "data", "--count", 1)):
        assert "There is no folder or file" in refusal(farshot(*command, *out))


def test_base_models_that_cannot_be_used(refused_adapt, place: Path, tmp_path: Path) -> None:
    assert "There is no folder" in refused_adapt(model=tmp_path / "missing")
    clip = Path(shutil.copytree(place / "clip", tmp_path / "clip"))
    (clip / "tokenizer.json").unlink()
    assert "has no tokenizer for its" in refused_adapt(model=clip)
    torch.save({}, clip / "pytorch_model.bin")
    (clip / "model.safetensors").unlink()
    assert "pytorch_model.bin holds no state dict" in refused_adapt(model=clip)
    config = json.loads((clip / "config.json").read_text())
    (clip / "config.json").write_text(json.dumps(config | {"model_type": "blip-2"}))
    assert "of type 'blip-2', which farshot cannot read" in refused_adapt(model=clip)


def test_a_base_model_of_the_hub_without_network(
    refused_adapt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert refused_adapt(model="someone/some-clip") == (
        "farshot: someone/some-clip is not in the local cache and the hub cannot be reached; connect once to "
        "download it, or give the folder of a checkpoint, or use --model mini."
    )


# Adapted models ------------------------------------------------------------------------------------------


@pytest.fixture
def copy(adapted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapted, tmp_path / "copy"))


def test_a_folder_that_is_no_adapted_model(farshot: Farshot, place: Path, adapted: Path) -> None:
    sentence = refusal(farshot("predict", place / "data", place / "data"))
    assert f"{place / 'data'} is not an adapted model: it has no farshot.json. `farshot adapt" in sentence


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("farshot.json", b""),
        ("farshot.json", b"{"),
        ("farshot.json", b"[]"),
        ("farshot.json", b'{"format": 1}'),
        ("farshot.json", b"\xff"),
        ("parts.safetensors", b"cut"),
        ("parts.safetensors", None),
        ("adapter_model.safetensors", b""),
        ("adapter_model.safetensors", None),
    ],
)
def test_a_damaged_adapted_model(
    farshot: Farshot, copy: Path, place: Path, file: str, content: bytes | None
) -> None:
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    assert f"{copy / file} is damaged (" in refusal(farshot("predict", copy, place / "data"))


def test_an_adapted_model_with_a_part_missing(farshot: Farshot, copy: Path, place: Path) -> None:
    tensors = load_file(copy / "parts.safetensors")
    some = {name: tensor.clone() for name, tensor in tensors.items() if name != "scale"}
    save_file(some, copy / "parts.safetensors")
    said = refusal(farshot("predict", copy, place / "data"))
    assert f"{copy / 'parts.safetensors'} is damaged (it lacks 'scale')" in said


def change(folder: Path, **values) -> None:
    about = json.loads((folder / "farshot.json").read_text())
    (folder / "farshot.json").write_text(json.dumps(about | values))


def test_an_adapted_model_of_another_time(farshot: Farshot, copy: Path, place: Path) -> None:
    change(copy, format=99)
    assert "update farshot to read it" in refusal(farshot("predict", copy, place / "data"))
    change(copy, format=2, revision=99)
    assert "revision 99 of prompt-lora" in refusal(farshot("predict", copy, place / "data"))
    change(copy, method="gone")
    assert "There is no method 'gone'" in refusal(farshot("predict", copy, place / "data"))


def test_a_base_model_that_has_moved_or_changed(
    farshot: Farshot, copy: Path, place: Path, tmp_path: Path
) -> None:
    change(copy, base_model=str(tmp_path / "gone"))
    sentence = refusal(farshot("predict", copy, place / "data"))
    assert f"The base model of {copy} cannot be loaded; name its place with --model PLACE." in sentence
    assert farshot("predict", copy, place / "data", "--model", place / "clip").code == 0
    sentence = refusal(farshot("predict", copy, place / "data", "--model", "mini"))
    assert "the weights in mini are others; name its base with --model" in sentence
    assert "There is no folder" in refusal(
        farshot("predict", copy, place / "data", "--model", tmp_path / "x")
    )


# Places to write -----------------------------------------------------------------------------------------


def test_a_place_that_is_taken(farshot: Farshot, place: Path, adapted: Path, tmp_path: Path) -> None:
    command = ("adapt", place / "data", "--model", place / "clip", *QUICK, "--out")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    both = Path(shutil.copytree(adapted, tmp_path / "both"))
    (both / "note.txt").write_text("mine")
    before = everything_in(tmp_path)
    assert "exists and is not an adapted model; choose another --out" in refusal(
        farshot(*command, tmp_path / "notes")
    )
    assert "exists and is not an adapted model" in refusal(farshot(*command, tmp_path / "file"))
    assert "holds more than an adapted model (note.txt)" in refusal(farshot(*command, both))
    assert "cannot be written, since" in refusal(farshot(*command, tmp_path / "file" / "out"))
    assert everything_in(tmp_path) == before


def test_an_empty_folder_is_a_place(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    told = farshot("adapt", place / "data", "--model", place / "clip", *QUICK, "--out", tmp_path / "out")
    assert told.code == 0
    assert (tmp_path / "out" / "farshot.json").is_file()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_no_space_left(
    farshot: Farshot, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_tensors, path: Path, **_options) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr("farshot.storage.model_folder.save_file", fail)
    told = farshot("adapt", place / "data", "--model", place / "clip", *QUICK, "--out", tmp_path / "out")
    sentence = refusal(told)
    assert f"{tmp_path / 'out'} cannot be written (" in sentence
    assert "No space left on device" in sentence
    assert "free some space or choose another --out" in sentence
    assert everything_in(tmp_path) == set()


def test_a_real_limit_of_the_system_on_the_size_of_files(
    farshot: Farshot, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with no_file_larger_than(2000):
        told = farshot("adapt", place / "data", "--model", place / "clip", *QUICK, "--out", out)
    assert f"{out} cannot be written (" in refusal(told)
    assert everything_in(tmp_path) == set()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("what", ["labels.csv", "labels.json", "labels.parquet", "names.txt"])
def test_a_pipe_in_place_of_a_table_is_not_waited_for(tmp_path: Path, farshot: Farshot, what: str) -> None:
    os.mkfifo(tmp_path / what)
    source = class_folders(tmp_path / "data") if what == "names.txt" else tmp_path / what
    more = ("--class-names", tmp_path / what) if what == "names.txt" else ()
    told = farshot("adapt", source, "--model", "mini", "--out", tmp_path / "out", *more)
    assert told.code == 2
    assert what in told.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("what", ["parts.safetensors", "farshot.json", "labelled.safetensors"])
def test_a_pipe_in_a_model_is_not_waited_for(
    place: Path, adapted: Path, tmp_path: Path, farshot: Farshot, what: str
) -> None:
    shutil.copytree(adapted, tmp_path / "adapted")
    (tmp_path / "adapted" / what).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "adapted" / what)
    told = farshot("predict", tmp_path / "adapted", place / "data")
    if what == "labelled.safetensors":  # as if it had been saved without it
        assert (told.code, told.err) == (0, "")
        return
    assert told.code == 2
    assert "adapted" in told.err
