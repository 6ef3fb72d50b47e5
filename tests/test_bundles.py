"""Bundles of results hold no local paths, are verified, and are refused where a row was forged; merging
refuses contradictions."""

from __future__ import annotations

import base64
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farshot.bench.bundle import Bundle, write_bundle
from farshot.bench.bundle_rows import shared_name
from farshot.bench.grid import Grid, parse_method
from farshot.bench.merge import merge
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.bench.verify import verify
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.errors import DataError, FarshotError
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from tests.bench_helpers import folder_pool, picture, tiny_checkpoint
from tests.bundle_helpers import Rows, forged, rows_of, written
from tests.input_helpers import Farshot, everything_in, refusal
from tests.same_rows import difference
from tests.test_bench_table import fill, run_of, shares

SHOTS, QUERIES = 1, 2


class Made:
    """A pool `p`, a model, a store of two methods on three tasks, and its bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder_pool(folder / "p", images=5)
        self.encoder: Encoder = load_encoder(tiny_checkpoint(folder / "clip"))
        self.store, self.bundle = folder / "r.db", folder / "r.zip"
        methods = [parse_method("zero-shot"), parse_method("prototypes")]
        with Store(self.store) as store:
            run_grid(Grid([self.pool()], [SHOTS], methods, 3, 1, 5, QUERIES), self.encoder, store)
            assert write_bundle(store, self.bundle) == 6

    def pool(self) -> Pool:
        return open_pool(f"p={self.folder / 'p'}")

    def refused(self, bundle: Path) -> str:
        """The sentence with which a bundle is refused where everything is here."""
        with pytest.raises(FarshotError) as error:
            verify(Bundle(bundle), [self.pool()], self.encoder, sample=99)
        sentence = str(error.value)
        assert str(bundle) in sentence
        assert sentence.endswith(".") and "\n" not in sentence
        return sentence


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("bundles"))


def test_a_bundle_is_verified_with_images_and_model(made: Made):
    found = verify(Bundle(made.bundle), [made.pool()], made.encoder, sample=4, seed=3)
    assert (found.results, found.runs, found.computed, found.eligible) == (6, 2, 4, 6)
    assert found.drawn == {"p": 6} and not found.not_drawn and not found.notes
    assert found.agreement.queries == 4 * 5 * QUERIES and found.agreement.same


def test_without_images_only_the_rows_are_checked(made: Made):
    found = verify(Bundle(made.bundle))
    assert (found.results, found.computed, found.not_drawn) == (6, 0, ["p"])


def test_the_commands_say_what_was_checked(made: Made, farshot: Farshot, tmp_path: Path):
    told = farshot("store", "export", made.store, "--bundle", tmp_path / "b.zip")
    assert (told.code, told.out) == (0, f"6 tasks: {tmp_path / 'b.zip'}\n")
    assert (tmp_path / "b.zip").read_bytes() == made.bundle.read_bytes()
    told = farshot("verify", tmp_path / "b.zip")
    assert told.code == 0 and "Only the internal checks ran" in told.out
    place = ("--pool-path", f"p={made.folder / 'p'}", "--cache", tmp_path / "cache", "--device", "cpu")
    told = farshot(
        "verify", tmp_path / "b.zip", *place, "--model", made.folder / "clip", "--sample-seed", "5"
    )
    assert told.code == 0, told.err
    assert "Computed again: 6 of 6 results, drawn with --sample-seed 5: labels agree in 100.00 %" in told.out
    assert "Only the internal" not in told.out


def test_a_bundle_has_no_images_and_no_local_paths(made: Made):
    with zipfile.ZipFile(made.bundle) as archive:
        assert sorted(archive.namelist()) == [
            "bundle.json",
            "episodes.jsonl",
            "results.jsonl",
            "runs.jsonl",
        ]
        text = b"".join(archive.read(name) for name in archive.namelist())
    assert str(made.folder).encode() not in text
    assert b'"model": "clip"' in text


@pytest.mark.parametrize(
    ("model", "shared"),
    [
        ("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("mini", "mini"),
        ("/models/clip", "clip"),
        ("C:\\models\\clip", "clip"),
        ("../clip/", "clip"),
        ("~/secret/weights.safetensors", "weights.safetensors"),
        ("~nobody/clip", "clip"),
        ("[" * 5000, "[" * 5000),
        ("clip\0", "clip\0"),
    ],
)
def test_a_shared_model_has_no_folder(model: str, shared: str):
    assert shared_name(model) == shared


def halves(row: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(row["probabilities"]), "<f2").reshape(-1, 5).copy()


def as_text(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


ODD: tuple[Any, ...] = (None, True, -1, 2**40, 1.5, float("nan"), "x", "", [], [300], ["x"], {}, "\ud800")
UNVERIFIED = {"loss", "seconds", "peak_memory", "batch", "device", "version", "created"}
"""What the results state and nobody can check; only impossible values are refused."""


MEMBERS = ("results", "episodes", "runs")


@pytest.mark.parametrize("member", MEMBERS)
def test_no_field_of_a_row_can_become_something_else(made: Made, tmp_path: Path, member: str):
    check_every_field(made, tmp_path, member, (-1, "x", None))


@pytest.mark.slow
@pytest.mark.parametrize("member", MEMBERS)
def test_no_field_of_a_row_can_become_anything_else(made: Made, tmp_path: Path, member: str):
    check_every_field(made, tmp_path, member, ODD)


def check_every_field(made: Made, tmp_path: Path, member: str, values: tuple[Any, ...]) -> None:
    """Hashes and counts fit what was changed, so that the rows themselves must tell."""
    first = rows_of(made.bundle)[member][1]
    for field, before in first.items():
        for number, odd in enumerate(values):
            if odd == before and type(odd) is type(before):
                continue

            def change(rows: Rows, field: str = field, odd: Any = odd) -> None:
                rows[member][1][field] = odd

            bundle = forged(made.bundle, tmp_path / "b.zip", change)
            named = (member, field) in {("runs", "model"), ("runs", "label")}  # both are said to be others
            plausible = (field in UNVERIFIED or named) and _fits(before, odd)
            empty = (member, field) == ("runs", "pool_notes") and odd in ([], ["x"])
            try:
                verify(Bundle(bundle))
            except FarshotError as error:
                assert not (plausible or empty), (field, odd, error)
                assert str(error).startswith(f"{bundle} is refused: ") and str(error).endswith(".")
            else:
                assert plausible or empty, (field, number, odd)
        bundle = forged(made.bundle, tmp_path / "b.zip", lambda rows, f=field: rows[member][1].pop(f))
        with pytest.raises(DataError, match="is refused"):
            verify(Bundle(bundle))


def _fits(before: Any, odd: Any) -> bool:
    """Whether another value is as possible as the one before."""
    if before is None:
        return odd is None or (isinstance(odd, float) and odd == odd)
    if isinstance(before, str):
        return isinstance(odd, str) and odd != "\ud800"
    if isinstance(before, int):
        return type(odd) is int and odd > 0
    return isinstance(odd, float) and odd == odd and odd >= 0


def flip(rows: Rows) -> None:
    """Another label for four queries of a task, with the probabilities and accuracy that fit it."""
    row, labels = rows["results"][0], rows["episodes"][0]["labels"]
    probabilities = halves(row)
    for query in range(4):
        old, new = row["predictions"][query], (row["predictions"][query] + 1) % 5
        probabilities[query, [old, new]] = probabilities[query, [new, old]]
        row["predictions"][query] = new
    row["probabilities"] = as_text(probabilities)
    row["accuracy"] = float(np.mean(np.array(row["predictions"]) == labels))


def confident(rows: Rows) -> None:
    row = rows["results"][0]
    sure = np.zeros_like(halves(row))
    sure[np.arange(len(sure)), row["predictions"]] = 1
    row["probabilities"] = as_text(sure)


def accuracy(rows: Rows) -> None:
    rows["results"][0]["accuracy"] = 1.0 - rows["results"][0]["accuracy"] / 2


def predictions(rows: Rows) -> None:
    row, labels = rows["results"][0], rows["episodes"][0]["labels"]
    row["predictions"] = [(value + 1) % 5 for value in labels]
    row["accuracy"] = 0.0


def twice(rows: Rows) -> None:
    rows["results"].insert(1, dict(rows["results"][0]))


def unknown(rows: Rows) -> None:
    rows["results"][2]["index"] = 7


def renumbered(rows: Rows) -> None:
    for row in (rows["episodes"][2], rows["results"][2], rows["results"][5]):
        row["index"] = 7


def swapped(rows: Rows) -> None:
    task = rows["episodes"][0]
    task["support"][0], task["query"][0] = task["query"][0], task["support"][0]


def another_kind(rows: Rows) -> None:
    rows["runs"][0]["kind"] = "transductive"


def unused(rows: Rows) -> None:
    del rows["results"][2], rows["results"][4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (accuracy, "task 1/0 of zero-shot on p, 1-shot: its accuracy is"),
        (predictions, "task 1/0 of zero-shot on p, 1-shot: its predictions are not the most probable"),
        (twice, "task 1/0 of zero-shot on p, 1-shot is there twice"),
        (unknown, "task 1/7 of zero-shot on p, 1-shot is not among the tasks"),
        (renumbered, "task 1/7 of zero-shot on p, 1-shot has other"),
        (swapped, "task 1/0 of zero-shot on p, 1-shot has other support"),
        (flip, "computed again, task 1/0 of zero-shot on p, 1-shot has other results"),
        (confident, "computed again, task 1/0 of zero-shot on p, 1-shot has other results"),
        (another_kind, "a run of zero-shot is called transductive, but this method is features"),
        (unused, "task 1/2 has no result"),
    ],
)
def test_a_forged_row_is_named(made: Made, tmp_path: Path, change: Callable[[Rows], None], words: str):
    assert words in made.refused(forged(made.bundle, tmp_path / "b.zip", change))


def test_other_images_and_another_model_are_named(made: Made, tmp_path: Path):
    other = open_pool(f"p={folder_pool(tmp_path / 'p', images=6)}")
    with pytest.raises(DataError, match=r"its pool p has the hash .* and the images here have"):
        verify(Bundle(made.bundle), [other])
    with pytest.raises(DataError, match="the model mini has the hash"):
        verify(Bundle(made.bundle), [made.pool()], load_encoder("mini"))


def test_runs_on_another_version_of_a_pool_are_not_checked(made: Made, tmp_path: Path):
    grown = Made(tmp_path)
    picture(tmp_path / "p" / "kind 0" / "new.png", 9999)
    with Store(grown.store) as store:
        grid = Grid([grown.pool()], [SHOTS], [parse_method("zero-shot")], 2, 1, 5, QUERIES)
        run_grid(grid, grown.encoder, store)
        write_bundle(store, grown.bundle)
    found = verify(Bundle(grown.bundle), [grown.pool()], grown.encoder, sample=99)
    assert found.notes == ["2 runs on another version of p, whose images are not those here"]
    assert (found.results, found.drawn, found.computed, found.eligible) == (8, {"p": 2}, 2, 2)


def test_a_run_is_called_what_its_settings_are_here(made: Made, tmp_path: Path, farshot: Farshot):
    """Defaults may have been others where a bundle was written; a forged name is not shown either."""

    def rename(rows: Rows) -> None:
        rows["runs"][0]["label"] = "prototypes"

    bundle = forged(made.bundle, tmp_path / "b.zip", rename)
    found = verify(Bundle(bundle), [made.pool()])
    assert found.notes == ["the name prototypes; its settings are those of zero-shot here"]
    told = farshot("store", "merge", bundle, tmp_path / "all.db")
    assert told.code == 0 and "b.zip: the name prototypes; its settings are those of zero-shot" in told.err
    with Store(tmp_path / "all.db", read_only=True) as store:
        assert [run.label for run in store.runs().values()] == ["zero-shot", "prototypes"]


def test_a_pool_that_was_benched_with_a_level_is_verified_with_it(
    made: Made, tmp_path: Path, farshot: Farshot
):
    for site in ("north", "south"):
        folder_pool(tmp_path / "q" / site, images=5)
    pool = open_pool(f"q={tmp_path / 'q'}", level=1)
    with Store(tmp_path / "r.db") as store:
        run_grid(Grid([pool], [1], [parse_method("zero-shot")], 2, 1, 2, 2), made.encoder, store)
        write_bundle(store, tmp_path / "b.zip")
    command = ("verify", tmp_path / "b.zip", "--pool-path", f"q={tmp_path / 'q'}", "--cache", tmp_path / "c")
    told = farshot(*command, "--level", "1")
    assert told.code == 0 and "the protocol draws the tasks of all 2 results" in told.out, told.err
    assert "give --level if its benchmark had one" in refusal(farshot(*command, "--level", "2"))


def test_a_mark_of_the_pool_cannot_be_removed(made: Made, tmp_path: Path):
    def mark(*notes: str) -> Path:
        def change(rows: Rows) -> None:
            for row in rows["runs"]:
                row["pool_notes"] = list(notes)

        return forged(made.bundle, tmp_path / "b.zip", change)

    pool = replace(made.pool(), notes=("12 images",))
    for words in ("12 images", "only 12 images"):  # those of another version of farshot
        assert verify(Bundle(mark(words)), [pool]).drawn == {"p": 6}
    with pytest.raises(DataError, match=r"does not say that its pool p differs from .* here: 12 images"):
        verify(Bundle(made.bundle), [pool])


def test_another_name_of_the_same_model_is_said(made: Made, tmp_path: Path):
    def change(rows: Rows) -> None:
        for row in rows["runs"]:
            row["model"] = "openai/clip-vit-large-patch14"

    found = verify(Bundle(forged(made.bundle, tmp_path / "b.zip", change)), [made.pool()], made.encoder)
    assert found.notes == [
        "the model's name openai/clip-vit-large-patch14; its weights are those of clip here"
    ]
    assert found.computed == 6


def test_files_that_are_no_bundles_are_refused(made: Made, tmp_path: Path):
    whole = made.bundle.read_bytes()
    rows = rows_of(made.bundle)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bent.zip").write_bytes(whole.replace(b"results.jsonl", b"../esults.jsn"))
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(written(rows, tmp_path / "more.zip"), "a") as archive:
        archive.writestr("more.db", "")
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        for name in ("runs.jsonl", "episodes.jsonl", "results.jsonl"):
            archive.writestr(name, "")
        archive.writestr("bundle.json", "[" * 100_000 + "\n")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("runs.jsonl", "episodes.jsonl", "results.jsonl"):
            archive.writestr(name, "")
        archive.writestr("bundle.json", " " * (1 << 21))
    changed = rows_of(made.bundle)
    changed["bundle"][0]["version"] = 99
    written(changed, tmp_path / "late.zip")
    for name in ("cut", "bent", "text", "more", "deep", "bomb", "late", "absent"):
        with pytest.raises(FarshotError) as error:
            verify(Bundle(tmp_path / f"{name}.zip"))
        assert f"{name}.zip" in str(error.value) and "\n" not in str(error.value), name
    spoiled = bytearray(whole)
    spoiled[whole.index(b"results.jsonl") + 60] ^= 0xFF
    (tmp_path / "spoiled.zip").write_bytes(bytes(spoiled))
    with pytest.raises(FarshotError, match=r"not what was packed|SHA-256|not whole|damaged"):
        verify(Bundle(tmp_path / "spoiled.zip"))


def test_hashes_that_do_not_fit_are_refused(made: Made, tmp_path: Path):
    with zipfile.ZipFile(made.bundle) as archive, zipfile.ZipFile(tmp_path / "b.zip", "w") as copy:
        for name in archive.namelist():
            text = archive.read(name)
            copy.writestr(name, text.replace(b'"device": "cpu"', b'"device": "gpu"'))
    with pytest.raises(DataError, match=r"results\.jsonl does not have the SHA-256"):
        verify(Bundle(tmp_path / "b.zip"))


def test_stores_and_bundles_are_merged(tmp_path: Path, made: Made, farshot: Farshot):
    parts = []
    for name, tasks in (("a", slice(0, 5)), ("b", slice(3, 8))):
        with Store(tmp_path / f"{name}.db") as store:
            fill(store, run_of("atha"), shares(1)[tasks], seed=1 + (name == "b"))
            fill(store, run_of("prompt-lora"), shares(2)[:4])
        parts.append(tmp_path / f"{name}.db")
    with Store(parts[1], read_only=True) as store:
        write_bundle(store, tmp_path / "b.zip")
    told = farshot("store", "merge", parts[0], tmp_path / "b.zip", made.store, tmp_path / "all.db")
    assert told.code == 0, told.err
    assert "a.db: 9 tasks\n" in told.out and "b.zip: 5 tasks, 4 already there" in told.out
    with Store(tmp_path / "all.db", read_only=True) as merged, Store(parts[0], read_only=True) as first:
        assert len(merged.query("SELECT * FROM results")) == 9 + 5 + 6
        kept = "SELECT created, version, seconds FROM results ORDER BY created"
        assert set(map(str, first.query(kept))) <= set(map(str, merged.query(kept)))
    assert farshot("store", "merge", tmp_path / "b.zip", tmp_path / "one.db").code == 0
    with Store(tmp_path / "one.db", read_only=True) as alone:
        assert len(alone.query("SELECT * FROM results")) == 9
    assert merge([parts[1], parts[1]], tmp_path / "same.db")[1].known == 9
    with Store(tmp_path / "same.db", read_only=True) as merged, Store(parts[1], read_only=True) as second:
        assert difference(merged, second).same
    assert "is there" not in told.err and not [n for n in everything_in(tmp_path) if "farshot-" in n]


def test_contradictions_are_refused_and_nothing_is_written(tmp_path: Path, farshot: Farshot):
    for name, mean in (("a", 0.3), ("b", 0.9)):
        with Store(tmp_path / f"{name}.db") as store:
            fill(store, run_of("atha"), np.full(3, mean))
    told = farshot("store", "merge", tmp_path / "a.db", tmp_path / "b.db", tmp_path / "all.db")
    assert "b.db contradicts what was read before it: task 1/0 of atha on isic, 1-shot" in refusal(told)
    with Store(tmp_path / "c.db") as store:
        fill(store, replace(run_of("prompt-lora"), pool_fingerprint="images of isic"), np.full(3, 0.5))
    with closing(sqlite3.connect(tmp_path / "c.db")) as changed, changed:
        changed.execute('UPDATE episodes SET support = \'["a", "c"]\'')
    told = farshot("store", "merge", tmp_path / "a.db", tmp_path / "c.db", tmp_path / "all.db")
    assert "c.db contradicts what was read before it: task 1/0 of prompt-lora" in refusal(told)
    assert "has other images" in told.err
    told = farshot("store", "merge", tmp_path / "a.db", tmp_path / "a.db", tmp_path / "b.db")
    assert "b.db exists" in refusal(told)
    assert {
        name for name in everything_in(tmp_path) if not name.startswith(("a.db", "b.db", "c.db"))
    } == set()


def test_refusals_of_the_commands(tmp_path: Path, farshot: Farshot, made: Made):
    out = tmp_path / "x.zip"
    assert "Give one place" in refusal(farshot("store", "export", made.store))
    assert "Give one place" in refusal(farshot("store", "export", made.store, "x.csv", "--bundle", out))
    assert "must end in .zip" in refusal(farshot("store", "export", made.store, "--bundle", tmp_path / "x"))
    assert "then the new store" in refusal(farshot("store", "merge", out))
    assert "There is no bundle" in refusal(farshot("verify", out))
    assert "names the pool 'q'" in refusal(farshot("verify", made.bundle, "--pool-path", "q=x"))
    out.write_text("mine")
    assert "exists and is not a result bundle" in refusal(
        farshot("store", "export", made.store, "--bundle", out)
    )
    assert out.read_text() == "mine"
