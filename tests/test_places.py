"""Places to write: checked before the work, replaced whole, nothing lost; names as people and shells write
them."""

from __future__ import annotations

import itertools
import os
import shlex
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from PIL import Image
from tools.mini_clip import clip

from farshot import FewShotClassifier, load
from farshot.bench.export import export
from farshot.bench.records import StoreError
from farshot.bench.store import Store
from farshot.cli.demo import run_demo
from farshot.data.readers import unlabelled
from farshot.errors import DataError, FarshotError
from farshot.explain.page import check_place as check_explanations
from farshot.export.about import check_place as check_export
from farshot.model.find import check_source
from farshot.pick.sheet import check_place as check_choice
from farshot.report.page import check_page, write_page
from farshot.storage.atomic import whole_folder
from farshot.storage.model_folder import check_place, write_folder
from farshot.world import write_folder as write_world
from tests.input_helpers import QUICK, Farshot, class_folders, everything_in, refusal
from tests.test_bench_store import RUN, record

ABOUT = {"base_model": "x", "farshot_version": "0"}
WORDS = {"title": "x", "groups": [], "same_tasks": True, "tasks": 0, "runs": 0, "blocks": []}
"""Of a page on an empty store."""


def save(folder: Path, value: float = 1.0) -> None:
    """Some adapted model."""
    write_folder(folder, ABOUT, {"texts": torch.full((2,), value)}, None)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Labelled images, and a place for what is made."""
    (tmp_path / "here").mkdir()
    return class_folders(tmp_path / "data", ("a", "b"), 2)


# Bad places -------------------------------------------------------------------------------------------


def here(place: Path) -> Path:
    os.chdir(place)
    return Path()


def here_by_name(place: Path) -> Path:
    os.chdir(place)
    return place


def dangling(place: Path) -> Path:
    (place / "link").symlink_to(place / "gone")
    return place / "link"


def below_dangling(place: Path) -> Path:
    return dangling(place) / "out"


def circle(place: Path) -> Path:
    (place / "link").symlink_to(place / "link")
    return place / "link"


def long_name(place: Path) -> Path:
    return place / ("x" * 300)


def long_name_in_new_folder(place: Path) -> Path:
    return place / "new" / ("x" * 300)


def below_a_file(place: Path) -> Path:
    (place / "file").write_text("mine")
    return place / "file" / "deep" / "out"


def unwritable(_place: Path) -> Path:
    return Path("/proc/farshot/out")  # there not even root can make a folder


def of_nobody(_place: Path) -> Path:
    return Path("~nobody-of-that-name/out")


def mount_point(place: Path) -> Path:
    (place / "mounted").mkdir()
    return place / "mounted"


BAD = (
    *(here, here_by_name, dangling, below_dangling, circle, long_name, long_name_in_new_folder),
    *(below_a_file, unwritable, of_nobody, mount_point),
)
FOR_FILES = tuple(bad for bad in BAD if bad not in (here, here_by_name, mount_point))


@pytest.fixture
def bad_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], Path]], Path]:
    """Makes a bad place; every folder "mounted" is a mount point."""
    (tmp_path / "bad").mkdir()
    monkeypatch.chdir(tmp_path)
    ismount = os.path.ismount
    monkeypatch.setattr("os.path.ismount", lambda p: Path(p).name == "mounted" or ismount(p))
    return lambda make: make(tmp_path / "bad")


@pytest.mark.parametrize("make", BAD)
@pytest.mark.parametrize(
    "check", [check_place, check_export, check_explanations, check_choice, clip.check_place]
)
def test_a_bad_place_for_a_folder_is_refused_before_the_work(check, make, bad_place, tmp_path: Path) -> None:
    place = bad_place(make)
    before = everything_in(tmp_path)
    with pytest.raises(DataError) as refused:
        check(place)
    told = str(refused.value)
    assert str(place)[:200] in told or "is a link to nothing" in told
    assert "\n" not in told
    assert "choose another" in told or "name a new folder in it" in told or "give the full path" in told
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("make", FOR_FILES)
def test_a_bad_place_for_a_page_is_refused_before_the_work(make, bad_place, tmp_path: Path) -> None:
    place = bad_place(make)
    before = everything_in(tmp_path)
    with pytest.raises(DataError):
        check_page(place)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("make", [*FOR_FILES, here, mount_point])
def test_a_bad_place_for_a_store_is_refused(make, bad_place, tmp_path: Path) -> None:
    place = bad_place(make)
    before = everything_in(tmp_path)
    with pytest.raises(FarshotError) as refused:
        Store(place)
    assert "disk I/O" not in str(refused.value)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("make", BAD)
def test_adapt_refuses_before_it_looks_at_the_images(farshot: Farshot, data, make, bad_place) -> None:
    (data / "a" / "0.png").write_bytes(b"no image")  # who reads the images first says this instead
    told = refusal(farshot("adapt", data, "--model", "mini", *QUICK, "--out", bad_place(make)))
    assert "cannot be read" not in told


@pytest.mark.parametrize("make", FOR_FILES)
def test_a_benchmark_refuses_its_store_before_it_looks_at_the_images(
    farshot: Farshot, data, make, bad_place
) -> None:
    (data / "a" / "0.png").write_bytes(b"no image")
    command = ("bench", "--pools", f"p={data}", "--methods", "zero-shot", "--model", "mini", "--ways", 2)
    told = refusal(farshot(*command, "--store", bad_place(make)))
    assert "image" not in told


def test_a_benchmark_that_cannot_begin_leaves_no_store(farshot: Farshot, data: Path, tmp_path: Path) -> None:
    command = ("bench", "--pools", f"p={data}", "--methods", "zero-shot", "--model", tmp_path / "none")
    refusal(farshot(*command, "--store", tmp_path / "here" / "r.db"))
    assert not everything_in(tmp_path / "here")


def test_a_cache_that_cannot_be_written_is_refused_before_images_are_decoded(
    farshot: Farshot, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("mine")
    (data / "a" / "0.png").write_bytes(b"no image")
    told = refusal(farshot("data", "prepare", f"p={data}", "--cache", tmp_path / "cache"))
    assert "choose another --cache" in told
    assert (tmp_path / "cache").read_text() == "mine"


# Good places ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "mein Modell", "-m"])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        save(tmp_path / name)
        write_page(tmp_path / f"{'x' * 245}.html", "store.html", WORDS)
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{'x' * 245}.html"}
    assert (tmp_path / name / "farshot.json").is_file()


@pytest.mark.parametrize("filled", [False, True])
def test_a_link_to_a_folder_is_followed(tmp_path: Path, filled: bool) -> None:
    (tmp_path / "real").mkdir()
    if filled:
        save(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", 2.0)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "farshot.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_a_link_to_a_page_is_followed(tmp_path: Path) -> None:
    write_page(tmp_path / "real.html", "store.html", WORDS)
    (tmp_path / "link.html").symlink_to("real.html")
    write_page(tmp_path / "link.html", "store.html", WORDS)
    assert (tmp_path / "link.html").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"real.html", "link.html"}


def test_a_closed_folder_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    save(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out" / "farshot.json").stat().st_mode & 0o077 == 0


def test_threads_that_save_to_one_place_all_succeed(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    before = os.umask(0o022)
    ready = threading.Barrier(3)

    def work(value: float) -> None:
        try:
            ready.wait()
            for _ in range(15):
                save(tmp_path / "out", value)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(float(n),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.umask(before) == 0o022
    assert not failed
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"farshot.json", "parts.safetensors"}


def test_a_folder_replaced_while_it_is_looked_into_is_looked_into_again(tmp_path: Path) -> None:
    """As another process does that saves to the same place."""
    save(tmp_path / "out", 1.0)
    save(tmp_path / "other", 2.0)
    real, calls = Path.open, itertools.count()

    def moved_away(path: Path, *mode: str, **how: str) -> IO[Any]:
        if path == tmp_path / "out" / "farshot.json" and next(calls) == 0:
            (tmp_path / "out").rename(tmp_path / "before")
            (tmp_path / "other").rename(tmp_path / "out")
            raise FileNotFoundError  # as it was in between
        return real(path, *mode, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", moved_away)
        save(tmp_path / "out", 3.0)
    assert next(calls) > 1


def test_new_folders_above_go_when_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "a" / "b" / "out", check_place):
        raise KeyboardInterrupt
    assert not everything_in(tmp_path)


# What others wrote ------------------------------------------------------------------------------------


def test_what_comes_into_the_folder_during_the_work_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "out")
    with (
        pytest.raises(DataError, match="holds more than an adapted model"),
        whole_folder(tmp_path / "out", check_place) as staging,
    ):
        (staging / "farshot.json").write_text("{}")
        (tmp_path / "out" / "notes.txt").write_text("mine")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "parts.safetensors").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_labels_that_are_filled_in_during_the_work_are_kept(tmp_path: Path) -> None:
    table = tmp_path / "out" / "picked.csv"
    table.parent.mkdir()
    table.write_text("order,path,label,guess,reason\n1,a.png,,,\n")
    with (
        pytest.raises(DataError, match="was filled in"),
        whole_folder(tmp_path / "out", check_choice),
    ):
        table.write_text("order,path,label,guess,reason\n1,a.png,cat,,\n")
    assert "cat" in table.read_text()


def test_a_folder_by_the_name_of_our_file_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "out")
    (tmp_path / "out" / "adapter_config.json").mkdir()
    (tmp_path / "out" / "adapter_config.json" / "mine").write_text("mine")
    with pytest.raises(DataError, match="would be lost"):
        save(tmp_path / "out")
    assert (tmp_path / "out" / "adapter_config.json" / "mine").is_file()


@pytest.mark.parametrize(
    ("file", "check"), [("farshot.json", check_place), ("explanations.json", check_explanations)]
)
def test_a_file_of_another_program_by_our_name_is_kept(tmp_path: Path, file: str, check) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("{}")
    with pytest.raises(DataError, match="choose another --out"):
        check(tmp_path / "out")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_store_is_exported_over_its_own_export_only(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    with Store(tmp_path / "r.db") as store:
        record(store, store.run_id(RUN), [0, 1])
        out.write_text('{"text": "mine"}\n')
        with pytest.raises(DataError, match="is not an export of farshot; choose another place"):
            export(store, out)
        assert out.read_text() == '{"text": "mine"}\n'
        out.unlink()
        assert export(store, out) == export(store, out) == 2
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_programs_database_is_not_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (x)")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="not a farshot store"):
        Store(tmp_path / "other.db")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("file", ["predictions.csv", "images/acne/mine.png", "images/mine/1.png", "mine.txt"])
def test_the_demo_leaves_the_files_of_others_alone(tmp_path: Path, file: str) -> None:
    place = tmp_path / "out" / file
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    if file == "predictions.csv":
        (tmp_path / "out" / "images").mkdir()
    before = contents(tmp_path)
    with pytest.raises(DataError, match="choose another"):
        run_demo(tmp_path / "out", 2)
    assert contents(tmp_path) == before


def test_a_world_is_not_written_over_other_pictures(tmp_path: Path) -> None:
    write_world("mini-skin", "test", range(3), tmp_path / "skin")
    write_world("mini-skin", "test", range(4), tmp_path / "skin")  # goes on
    first = sorted((tmp_path / "skin").rglob("*.png"))[0]
    Image.new("RGB", (5, 5)).save(first)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"{first} exists and is another picture"):
        write_world("mini-skin", "test", range(6), tmp_path / "skin")
    assert contents(tmp_path) == before


def test_a_trained_world_model_is_not_written_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(DataError, match="is not a mini CLIP"):
        clip.check_place(tmp_path)


def test_the_app_keeps_nothing_among_other_files(tmp_path: Path) -> None:
    server = pytest.importorskip("farshot.app.server")
    (tmp_path / "mine").mkdir()
    tmp_path.chmod(0o755)
    with (
        pytest.raises(DataError, match="holds something else"),
        server.serving(server.Options(keep=tmp_path)),
    ):
        pass
    assert tmp_path.stat().st_mode & 0o777 == 0o755


# Names ------------------------------------------------------------------------------------------------


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which is not the working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_a_path_from_the_home_folder_is_understood(zero_shot: FewShotClassifier, at_home: Path) -> None:
    zero_shot.save("~/model")
    assert load("~/model").classes_.tolist() == zero_shot.classes_.tolist()
    write_world("mini-skin", "test", range(2), "~/skin")
    with Store("~/r.db") as store:
        record(store, store.run_id(RUN), [0])
        export(store, Path("~/r.jsonl"))
    write_page("~/r.html", "store.html", WORDS)
    assert {path.name for path in at_home.iterdir()} == {"model", "skin", "r.db", "r.jsonl", "r.html"}
    assert not everything_in(at_home.parent / "work")


UNKNOWN = "~nobody-of-that-name/x"


@pytest.mark.parametrize(
    "command",
    [
        ("adapt", UNKNOWN, "--model", "mini", "--out", "out"),
        ("adapt", "{data}", "--model", UNKNOWN, "--out", "out"),
        ("adapt", "{data}", "--model", "mini", "--class-names", UNKNOWN, "--out", "out"),
        ("adapt", "{data}", "--model", "mini", "--descriptions", UNKNOWN, "--out", "out"),
        ("adapt", "{data}", "--model", "mini", "--out", UNKNOWN),
        ("predict", UNKNOWN, "{data}"),
        ("predict", "{data}", UNKNOWN),
        ("evaluate", UNKNOWN, "{data}"),
        ("explain", UNKNOWN, "{data}", "--out", "out"),
        ("explain", "{data}", "{data}", "--out", UNKNOWN),
        ("export", UNKNOWN, "--format", "peft", "--out", "out"),
        ("export", "{data}", "--format", "peft", "--out", UNKNOWN),
        ("push", UNKNOWN, "ada/leaves"),
        ("report", UNKNOWN),
        ("report", "{data}", "--out", UNKNOWN),
        ("pick", UNKNOWN, "--count", "1", "--model", "mini", "--out", "out"),
        ("pick", "{data}", "--count", "1", "--model", UNKNOWN, "--out", "out"),
        ("pick", "{data}", "--count", "1", "--model", "mini", "--out", UNKNOWN),
        ("bench", "--pools", f"p={UNKNOWN}", "--methods", "zero-shot", "--store", "r.db"),
        ("bench", "--pools", UNKNOWN, "--methods", "zero-shot", "--store", "r.db"),
        ("bench", "--pools", "p={data}", "--methods", "zero-shot", "--store", UNKNOWN),
        ("bench", "--pools", "eurosat", "--data-root", UNKNOWN, "--methods", "zero-shot", "--store", "r.db"),
        ("data", "check", "eurosat", UNKNOWN),
        ("data", "prepare", "p={data}", "--cache", UNKNOWN),
        ("table", "--store", UNKNOWN),
        ("store", "list", UNKNOWN),
        ("demo", "--out", UNKNOWN),
        ("app", "--no-browser", "--keep", UNKNOWN),
    ],
)
def test_a_home_folder_that_is_none_is_one_sentence(
    farshot: Farshot, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command
) -> None:
    monkeypatch.chdir(tmp_path / "here")
    told = refusal(farshot(*(word.replace("{data}", str(data)) for word in command)))
    assert UNKNOWN in told
    assert "error in farshot itself" not in told
    assert not everything_in(tmp_path / "here")


def test_an_unknown_home_folder_in_a_table_or_from_python_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,label\n{UNKNOWN},a\n")
    from farshot.data.readers import read_table

    for use in (
        lambda: read_table(tmp_path / "t.csv"),
        lambda: unlabelled([UNKNOWN]),
        lambda: check_source(UNKNOWN),
        lambda: save(Path(UNKNOWN)),
    ):
        with pytest.raises(FarshotError, match="~nobody-of-that-name/x"):
            use()


def copied(line: str, command: str) -> list[str]:
    """The words of the command as a shell reads them, as found in what was printed."""
    return shlex.split(line[line.index(f"farshot {command}") :].splitlines()[0])


@pytest.mark.parametrize("name", ["mein Modell", "it's", "a;b", "-m", "$x"])
def test_what_is_printed_to_be_copied_can_be_copied(
    farshot: Farshot, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = data.rename(tmp_path / "meine Bilder")
    told = farshot("adapt", place.name, "--model", "mini", *QUICK, "--shots", 1, f"--out={name}")
    assert told.code == 0, told
    expected = f"./{name}" if name.startswith("-") else name
    assert copied(told.out, "predict") == ["farshot", "predict", expected, "IMAGES"]
    assert copied(told.out, "evaluate") == ["farshot", "evaluate", expected, "meine Bilder"]
    assert farshot("predict", expected, place).code == 0


def test_hints_in_refusals_can_be_copied(farshot: Farshot, data: Path, tmp_path: Path) -> None:
    told = refusal(farshot("predict", tmp_path / "mein Modell", data))
    assert f"--out {shlex.quote(str(tmp_path / 'mein Modell'))}`" in told
    told = refusal(farshot("table", "--store", tmp_path / "mein Store.db"))
    assert f"--store {shlex.quote(str(tmp_path / 'mein Store.db'))}`" in told
    with Store(tmp_path / "leer es.db"):
        pass
    told = refusal(farshot("table", "--store", tmp_path / "leer es.db"))
    assert f"--store {shlex.quote(str(tmp_path / 'leer es.db'))}`" in told
