"""The commands as a person types them: what they print, where, and what they leave behind."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from farshot.cli import console
from farshot.data.readers import read_table
from tests.bench_helpers import tiny_checkpoint
from tests.input_helpers import (
    QUICK,
    Farshot,
    adapted_in,
    class_folders,
    everything_in,
    picture,
    refusal,
)

CLASSES = ("black_cat", "dog", "[bold]owl[bold] :cat:")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and labelled images of 3 classes x 4."""
    place = tmp_path_factory.mktemp("place")
    tiny_checkpoint(place / "clip")
    class_folders(place / "data", CLASSES, 4)
    return place


@pytest.fixture(scope="module")
def adapted(place: Path) -> Path:
    """A model adapted to 2 shots of it."""
    return adapted_in(place, "--shots", 2)


# options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "MODEL", "DATA", "--reject", 0.1), "--reject is for --other"),
        (("report", "MODEL", "--groups", "("), "are for --data IMAGES"),
        (("report", "MODEL", "--level", 2), "are for --data IMAGES"),
        (
            ("export", "MODEL", "--format", "peft", "--images", "DATA"),
            "--images is for other formats than peft",
        ),
        (
            ("export", "MODEL", "--format", "onnx", "--images", "DATA", "--level", 1),
            "are for labelled --images",
        ),
        (("export", "MODEL", "--student", "DATA", "--groups", "a"), "are for labelled --images"),
    ],
)
def test_an_option_without_effect_is_refused(
    farshot: Farshot, adapted: Path, place: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    places = {"MODEL": adapted, "DATA": place / "data"}
    told = farshot(*(places.get(str(one), one) for one in arguments), "--out", tmp_path / "out.csv")
    assert words in refusal(told)


# adapt ---------------------------------------------------------------------------------------------------


def test_adapt_says_what_it_did_and_how_to_go_on(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "adapted"
    told = farshot("adapt", place / "data", "--model", place / "clip", "--out", out, "--shots", 3, *QUICK)
    assert told.code == 0, told.err
    first, second, third = told.out.splitlines()
    assert first == f"Adapted {place / 'clip'} with prompt-lora to 9 images of 3 classes: {out}"
    assert second == f"3 images are left for measuring: farshot evaluate {out} {place / 'data'}"
    assert third == f"For new images: farshot predict {out} IMAGES"
    assert everything_in(tmp_path / "deep") == {
        "adapted",
        "adapted/farshot.json",
        "adapted/parts.safetensors",
        "adapted/adapter_config.json",
        "adapted/adapter_model.safetensors",
        "adapted/labelled.safetensors",
        "adapted/labelled.json",
    }


def test_shots_and_seed_choose_the_support_set(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    ids = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        options = ("--method", "zero-shot", "--shots", 2, "--seed", seed)
        assert farshot("adapt", place / "data", "--model", place / "clip", "--out", out, *options).code == 0
        ids.append(json.loads((out / "farshot.json").read_text())["support_ids"])
    table = read_table(place / "data")
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == [table.content(int(row)) for row in table.draw(2, 1)[0]]


def test_settings_names_descriptions_and_template_are_kept(
    farshot: Farshot, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("bird\ncat\ndog\n")
    (tmp_path / "words.json").write_text('{"dog": "four legs and a tail"}')
    told = farshot(
        *("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out", *QUICK),
        *("--class-names", tmp_path / "names.txt", "--descriptions", tmp_path / "words.json"),
        *("--template", "a picture of {}", "--seed", 7),
    )
    assert told.code == 0, told.err
    about = json.loads((tmp_path / "out" / "farshot.json").read_text())
    assert about["classes"] == sorted(CLASSES)
    assert about["class_names"] == ["bird", "cat", "dog"]
    assert about["descriptions"] == {"dog": "four legs and a tail"}
    assert (about["template"], about["seed"]) == ("a picture of {}", 7)
    assert (about["settings"]["steps"], about["settings"]["rank"]) == (1, 1)


def test_an_estimate_is_printed_and_kept(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    command = ("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out")
    told = farshot(*command, "--method", "zero-shot", "--estimate", "--calibrate")
    assert told.code == 0, told.err
    assert "Cross-validated on the labelled images: accuracy" in told.out
    about = json.loads((tmp_path / "out" / "farshot.json").read_text())
    assert about["estimate"]["images"] == 12
    assert about["temperature"] != 1


def test_adapting_again_replaces_an_adapted_model(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    command = ("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out")
    assert farshot(*command, *QUICK).code == 0
    assert farshot(*command, "--method", "zero-shot").code == 0
    files = ("farshot.json", "parts.safetensors", "labelled.safetensors", "labelled.json")
    assert everything_in(tmp_path) == {"out", *(f"out/{name}" for name in files)}


def test_unreadable_images_are_skipped_if_asked(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", CLASSES, 2)
    (folder / "dog" / "bad.png").write_bytes(b"")
    command = ("adapt", folder, "--model", place / "clip", "--method", "zero-shot", "--out", tmp_path / "out")
    assert farshot(*command).code == 2
    told = farshot(*command, "--skip-unreadable")
    assert told.code == 0
    assert "1 unreadable image is left out." in told.err
    assert "to 6 images" in told.out


# predict -------------------------------------------------------------------------------------------------


def test_predict_prints_one_line_per_image(farshot: Farshot, adapted: Path, place: Path) -> None:
    images = [place / "data" / "dog" / "0.png", place / "data" / "black_cat"]
    told = farshot("predict", adapted, *images)
    assert (told.code, told.err) == (0, "")
    lines = [line.split("\t") for line in told.out.splitlines()]
    assert [line[0] for line in lines] == [str(images[0]), *(str(images[1] / f"{i}.png") for i in range(4))]
    assert {line[1] for line in lines} <= set(CLASSES)
    assert all(1 / 3 <= float(line[2].removeprefix("score ")) <= 1 for line in lines)  # not calibrated
    assert all(0 < float(line[3].removeprefix("p ")) <= 1 for line in lines)


def test_csv_and_json_hold_all_probabilities_and_agree(farshot: Farshot, adapted: Path, place: Path) -> None:
    as_csv = farshot("predict", adapted, place / "data", "--csv")
    as_json = farshot("predict", adapted, place / "data", "--json")
    assert as_csv.code == as_json.code == 0
    assert as_csv.err == as_json.err == ""
    header, *rows = csv.reader(as_csv.out.splitlines())
    assert header == ["image", "class", *sorted(CLASSES), "p_value"]
    assert len(rows) == 12
    for row, found in zip(rows, json.loads(as_json.out), strict=True):
        assert row[:2] == [found["image"], found["class"]]
        probabilities = found["probabilities"]
        assert [float(v) for v in row[2:-1]] == pytest.approx(list(probabilities.values()), abs=1e-6)
        assert float(row[-1]) == pytest.approx(found["p_value"], abs=1e-4)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert found["class"] == max(probabilities, key=probabilities.__getitem__)


def test_odd_names_of_files_are_printed_as_they_are(farshot: Farshot, adapted: Path, tmp_path: Path) -> None:
    name = '[red]a, "b" :cat: ä\u4e2d [red].png'
    picture(3).save(tmp_path / name)
    assert farshot("predict", adapted, tmp_path).out.startswith(f"{tmp_path / name}\t")
    rows = list(csv.reader(farshot("predict", adapted, tmp_path, "--csv").out.splitlines()))
    assert rows[1][0] == str(tmp_path / name)
    assert json.loads(farshot("predict", adapted, tmp_path, "--json").out)[0]["image"] == str(tmp_path / name)


# evaluate ------------------------------------------------------------------------------------------------


def test_evaluate_leaves_the_support_set_out(farshot: Farshot, adapted: Path, place: Path) -> None:
    told = farshot("evaluate", adapted, place / "data")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("6 images that it was adapted to are left out.\n")
    assert "(95 % interval) on 6 images" in told.out
    assert all(name in told.out for name in CLASSES)
    assert "on 12 images" in farshot("evaluate", adapted, place / "data", "--include-support").out


def test_evaluate_as_json(farshot: Farshot, adapted: Path, place: Path) -> None:
    told = farshot("evaluate", adapted, place / "data", "--json")
    assert (told.code, told.err) == (0, "")
    found = json.loads(told.out)
    assert (found["images"], found["left_out_support"]) == (6, 6)
    assert [one["class"] for one in found["classes"]] == sorted(CLASSES)
    right = sum(row[i] for i, row in enumerate(found["confusion"]))
    assert found["accuracy"]["value"] == pytest.approx(right / 6)
    assert found["accuracy"]["low"] < found["accuracy"]["value"] + 1e-9 <= found["accuracy"]["high"] + 1e-9
    predicted = json.loads(farshot("predict", adapted, place / "data", "--json").out)
    whole = json.loads(farshot("evaluate", adapted, place / "data", "--json", "--include-support").out)
    same = sum(Path(one["image"]).parent.name == one["class"] for one in predicted)
    assert whole["accuracy"]["value"] == pytest.approx(same / 12)


def test_many_classes_show_the_most_frequent_confusions(
    farshot: Farshot, place: Path, tmp_path: Path
) -> None:
    classes = tuple(f"kind {chr(97 + i)}" for i in range(13))
    class_folders(tmp_path / "data", classes, 2)
    command = ("--model", place / "clip", "--method", "zero-shot", "--shots", 1, "--out", tmp_path / "out")
    assert farshot("adapt", tmp_path / "data", *command).code == 0
    told = farshot("evaluate", tmp_path / "out", tmp_path / "data")
    assert told.code == 0
    assert "Most frequent confusions; --json gives the whole matrix:" in told.out
    assert max(len(line) for line in told.out.splitlines() if line.startswith("│")) <= 80


def test_classes_alike_but_for_their_prompts_can_be_told_apart(
    farshot: Farshot, place: Path, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", ("black_cat", "Black cat"), 2)
    (tmp_path / "names.txt").write_text("panther\ncat\n")
    command = ("adapt", data, "--model", place / "clip", "--out", tmp_path / "out", *QUICK, "--shots", 1)
    assert farshot(*command, "--class-names", tmp_path / "names.txt").code == 0
    found = json.loads(farshot("evaluate", tmp_path / "out", data, "--json").out)
    assert [one["class"] for one in found["classes"]] == ["Black cat", "black_cat"]
    assert found["images"] == 2


def test_real_pictures_go_all_the_way(farshot: Farshot, real_images: Path, tmp_path: Path) -> None:
    data, model = real_images / "neu_steel", real_images / "photo-clip"
    told = farshot("adapt", data, "--model", model, "--shots", 2, "--out", tmp_path / "out", *QUICK)
    assert told.code == 0, told.err
    found = json.loads(farshot("evaluate", tmp_path / "out", data, "--json").out)
    assert (found["images"], found["left_out_support"]) == (348, 12)
    told = farshot("predict", tmp_path / "out", data / "scratches", "--csv")
    assert (told.code, told.err) == (0, "")
    assert len(told.out.splitlines()) == 61


# methods and help ----------------------------------------------------------------------------------------


def test_methods_are_listed_with_their_settings(farshot: Farshot) -> None:
    told = farshot("methods")
    assert told.code == 0
    for word in ("atha", "prompt-lora", "clip-lora", "zero-shot", "variant=paper", "rho=0.1", "steps=100"):
        assert word in told.out
    found = json.loads(farshot("methods", "*lora*", "--json").out)
    assert {"clip-lora", "prompt-lora"} <= set(found)
    assert "atha" not in found
    assert found["prompt-lora"]["settings"]["rank"] == 16


@pytest.mark.parametrize("command", [(), ("adapt",), ("predict",), ("evaluate",), ("methods",), ("pick",)])
def test_every_command_has_help(farshot: Farshot, command: tuple[str, ...]) -> None:
    told = farshot(*command, "--help")
    assert (told.code, told.err) == (0, "")
    assert f"Usage: farshot {' '.join(command)}".strip() in told.out


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import farshot.cli.root, sys; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("name its place with model=PLACE.", "name its place with --model PLACE."),
        ("or use include_support=True.", "or use --include-support."),
        ("adapt again with calibrate=True.", "adapt again with --calibrate."),
        ("use atha[base=vpt,steps=50] or NAME=PATH", "use atha[base=vpt,steps=50] or NAME=PATH"),
        ("read model.pt@gelu=quick", "read model.pt@gelu=quick"),
        ("photos/split=TEST has no image", "photos/split=TEST has no image"),
        ("photos/model=PLACE/1.png has no image", "photos/model=PLACE/1.png has no image"),
        ("split=TEST has no image", "split=TEST has no image"),
    ],
)
def test_python_arguments_in_messages_become_options(library: str, command: str) -> None:
    assert console.as_flags(library) == command
