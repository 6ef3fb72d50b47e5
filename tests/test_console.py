"""However a command ends, it is with one sentence: stopped, out of space or memory, by an error of ours."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from farshot.cli import console
from farshot.cli.root import app
from farshot.model.tokenizer import PromptCutWarning
from tests.input_helpers import (
    PROGRAM,
    QUICK,
    Farshot,
    everything_in,
    picture,
    subprocess_environment,
)

# Being stopped -------------------------------------------------------------------------------------------


def interrupt(*_arguments, **_options) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "where",
    [
        "farshot.data.table.ImageTable.look",  # reading images
        "farshot.classifier.fewshot.shared_encoder",
        "farshot.training.batches.SupportImages.at",  # training
        "farshot.storage.model_folder.json.dumps",  # between the files of the folder
        "farshot.storage.model_folder.save_file",
    ],
)
def test_ctrl_c_anywhere_is_one_sentence_and_leaves_nothing(
    farshot: Farshot, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(where, interrupt)
    told = farshot("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out", *QUICK)
    assert told == (130, "", "farshot: stopped; nothing half-written is left behind.\n")
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize("where", ["exchange", "aside"])
def test_ctrl_c_while_replacing_keeps_the_old_model(
    farshot: Farshot, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    command = ("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "out")
    assert farshot(*command, "--method", "zero-shot").code == 0
    before = (tmp_path / "out" / "farshot.json").read_bytes()
    real = Path.rename

    def stop_before_the_new_one(self: Path, target: Path) -> Path:
        if Path(target).name == "out" and not self.name.endswith("-old"):
            raise KeyboardInterrupt
        return real(self, target)

    if where == "exchange":
        monkeypatch.setattr("farshot.storage.atomic.exchange", interrupt)
    else:
        monkeypatch.setattr("farshot.storage.atomic.exchange", lambda a, b: False)
        monkeypatch.setattr(Path, "rename", stop_before_the_new_one)
    assert farshot(*command, *QUICK).code == 130
    assert (tmp_path / "out" / "farshot.json").read_bytes() == before
    assert everything_in(tmp_path) == {
        "out",
        *(
            f"out/{name}"
            for name in ("farshot.json", "parts.safetensors", "labelled.safetensors", "labelled.json")
        ),
    }


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGTERM, signal.SIGHUP))],
)
def test_a_real_signal_to_the_real_program(place: Path, tmp_path: Path, number: signal.Signals) -> None:
    default = "default_int_handler" if number == signal.SIGINT else "SIG_DFL"
    program = (
        f"import signal\nsignal.signal({int(number)}, signal.{default})\n"  # not what this process has
        "import farshot.training.batches as support\nreal = support.SupportImages.at\n"
        "def at(self, step):\n    if step == 3: print('training', flush=True)\n    return real(self, step)\n"
        "support.SupportImages.at = at\nfrom farshot.cli.root import main\nmain()"
    )
    command = [sys.executable, "-c", program, "adapt", str(place / "data"), "--model", str(place / "clip")]
    command += ["--out", str(tmp_path / "out"), "--method", "prompt-lora", "--set", "steps=1000000"]
    child = subprocess.Popen(
        command, env=subprocess_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "training\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    *forecast, farewell = err.splitlines()
    assert (child.returncode, farewell) == (
        128 + number,
        "farshot: stopped; nothing half-written is left behind.",
    )
    assert all("prompt-lora will take about" in line for line in forecast)
    assert everything_in(tmp_path) == set()


# Streams -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert told.returncode == 2
    assert told.stderr == (
        "farshot: the output cannot be written: No space left on device; fix that and run the command "
        "again.\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    told = subprocess.run([*PROGRAM, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert told.stderr == ""


def test_names_that_the_terminal_cannot_show_do_not_stop_it(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(1).save(tmp_path / "\u4e2d.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["farshot", "predict", str(adapted), str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as ended:
        console.run(app)
    assert not ended.value.code
    assert json.loads(written.getvalue())[0]["image"] == str(tmp_path / "\u4e2d.png")


# What is not the user's fault ----------------------------------------------------------------------------


def ends(farshot: Farshot, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[int, str]:
    def fail(*_arguments, **_options) -> None:
        raise error

    monkeypatch.setattr("farshot.methods.catalogue.catalogue", fail)
    told = farshot("methods")
    assert "Traceback" not in told.err
    return told.code, told.err


def test_full_memory_names_the_way_out(farshot: Farshot, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (kind("CUDA out of memory"), MemoryError(), RuntimeError("x: can't allocate memory: y")):
        code, err = ends(farshot, monkeypatch, error)
        assert code == 2
        assert "the memory is full; set a smaller --micro-batch" in err


def test_an_error_of_ours_is_one_sentence_that_asks_for_a_report(
    farshot: Farshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ends(farshot, monkeypatch, KeyError("x")) == (
        1,
        "farshot: an error in farshot itself (KeyError: 'x'); please report it, with what "
        "FARSHOT_TRACEBACK=1 shows.\n",
    )


def test_an_error_of_the_system_names_the_file(farshot: Farshot, monkeypatch: pytest.MonkeyPatch) -> None:
    code, err = ends(farshot, monkeypatch, PermissionError(13, "Permission denied", "/some/file"))
    assert (code, err) == (2, "farshot: /some/file: Permission denied; fix that and run the command again.\n")


def test_warnings_for_users_are_notes_and_others_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            console.run(_warn)
    assert capfd.readouterr().err == "Note: The prompt is cut.\n"


def _warn() -> None:
    warnings.warn("The prompt is cut.", PromptCutWarning, stacklevel=1)
    warnings.warn("this will go away", FutureWarning, stacklevel=1)
    sys.exit(0)
