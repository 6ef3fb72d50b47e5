"""A grid is the same however it is cut up: by batches, order, processes, or kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from farshot.bench.grid import Grid, label, parse_method
from farshot.bench.load import choose_load, cost, images_per_step
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.bench.tasks import Shape
from farshot.bench.worker import tasks_of
from farshot.data import table as table_module
from farshot.data.cache import cached
from farshot.data.pools import open_pool
from farshot.errors import FarshotError, SettingError
from farshot.methods import create
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from tests.bench_helpers import folder_pool, tiny_checkpoint
from tests.same_rows import difference

METHODS = ("zero-shot", "prompt-lora[steps=3,views=none]", "atha[steps=3,views=none]")
MAIN = "from farshot.cli.root import main; main()"


@dataclass(frozen=True)
class Place:
    """A checkpoint, a folder of images and an encoder."""

    folder: Path
    encoder: Encoder

    def grid(self, methods=METHODS, shots=(1, 2), tasks=5, **more) -> Grid:
        pool = cached(open_pool(f"p={self.folder / 'p'}"), self.folder / "cache")
        return Grid([pool], shots, [parse_method(m) for m in methods], tasks, queries=3, **more)

    def command(self, store: Path, tasks: int = 5) -> list[str]:
        arguments = ["bench", "--pools", f"p={self.folder / 'p'}", "--shots", "1", "2", "--methods", *METHODS]
        arguments += ["--tasks", str(tasks), "--queries", "3", "--tasks-per-batch", "2", "--device", "cpu"]
        arguments += ["--model", str(self.folder / "m"), "--cache", str(self.folder / "cache")]
        return [sys.executable, "-c", MAIN, *arguments, "--store", str(store)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("bench")
    folder_pool(folder / "p", images=8)
    return Place(folder, load_encoder(tiny_checkpoint(folder / "m")))


@pytest.fixture(scope="module")
def whole(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted run."""
    path = tmp_path_factory.mktemp("whole") / "r.db"
    with Store(path) as store:
        run_grid(place.grid(), place.encoder, store, tasks_per_batch=2)
    return path


def assert_same(a: Path, b: Path) -> None:
    with Store(a, read_only=True) as one, Store(b, read_only=True) as other:
        found = difference(one, other)
    assert found.same, str(found)
    assert found.tasks == 30


@pytest.mark.parametrize("batch", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 16))])
def test_tasks_per_batch_and_order_change_no_prediction(
    place: Place, whole: Path, tmp_path: Path, batch: int
) -> None:
    grid = place.grid(methods=METHODS[::-1], shots=(2, 1))
    with Store(tmp_path / "r.db") as store:
        run_grid(grid, place.encoder, store, tasks_per_batch=batch)
    assert_same(whole, tmp_path / "r.db")


def test_the_same_command_adds_what_is_missing_and_nothing_else(place: Place, tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        run_grid(place.grid(tasks=3), place.encoder, store)
        first = {row["idx"]: row["created"] for row in store.query("SELECT idx, created FROM results")}
        run_grid(place.grid(tasks=3), place.encoder, store)
        assert len(store.query("SELECT * FROM results")) == 18
        run_grid(place.grid(tasks=5), place.encoder, store)
        assert len(store.query("SELECT * FROM results")) == 30
        after = {row["idx"]: row["created"] for row in store.query("SELECT idx, created FROM results")}
        assert all(after[idx] == created for idx, created in first.items())
        assert store.query("SELECT * FROM claims") == []


def test_an_interruption_keeps_whole_batches_and_gives_up_claims(
    place: Place, whole: Path, tmp_path: Path
) -> None:
    class Stop:
        """Presses Ctrl-C in the middle of the fourth batch."""

        batches = 0

        def begin(self, work, done):
            pass

        def working(self, cell, work):
            if self.batches == 3 and work > 0:
                raise KeyboardInterrupt

        def stored(self, work):
            self.batches += 1

        def finished(self, cell, accuracy, seconds):
            pass

    with Store(tmp_path / "r.db") as store:
        with pytest.raises(KeyboardInterrupt):
            run_grid(place.grid(), place.encoder, store, tasks_per_batch=2, watcher=Stop())
        assert 4 <= len(store.query("SELECT * FROM results")) <= 6
        assert store.query("SELECT * FROM claims") == []
        run_grid(place.grid(), place.encoder, store, tasks_per_batch=2)
    assert_same(whole, tmp_path / "r.db")


def rows_in(store: Path) -> int:
    if not store.exists():
        return 0
    try:
        with Store(store, read_only=True) as found:
            return len(found.query("SELECT run FROM results"))
    except FarshotError:  # not made to the end yet
        return 0


def test_killed_and_resumed_it_is_the_same(place: Place, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "r.db"
    child = subprocess.Popen(place.command(store), stderr=subprocess.DEVNULL, env=_one_thread())
    while rows_in(store) < 7 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 0 < rows_in(store) < 30
    with Store(store) as filled:
        run_grid(place.grid(), place.encoder, filled, tasks_per_batch=2, sleep=_never)
    assert_same(whole, store)


@pytest.mark.slow
def test_two_processes_fill_one_store(place: Place, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "r.db"
    child = subprocess.Popen(place.command(store), stderr=subprocess.PIPE, text=True, env=_one_thread())
    while rows_in(store) < 1 and child.poll() is None:
        time.sleep(0.01)
    with Store(store) as filled:
        run_grid(place.grid(), place.encoder, filled, tasks_per_batch=2)
        sizes = {row["batch"] for row in filled.query("SELECT batch FROM results")}
    said = child.communicate()[1]
    assert child.returncode == 0, said
    assert sizes == {1, 2}  # batches of two, and the fifth task alone
    assert_same(whole, store)


def test_another_process_at_work_is_waited_for(place: Place, tmp_path: Path) -> None:
    grid = place.grid(methods=["zero-shot"], shots=[1], tasks=2)
    (cell,) = grid.cells
    with Store(tmp_path / "r.db") as other, Store(tmp_path / "r.db") as store:
        run = other.run_id(grid.run(cell, place.encoder))
        assert other.claim(run, grid.seed, 2, 2) == [0, 1]
        waits = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                other.release()

        run_grid(grid, place.encoder, store, sleep=sleep)
        assert len(waits) == 2
        assert len(store.series(run)) == 2


def test_no_image_is_decoded_twice_in_any_run(place: Place, tmp_path: Path, monkeypatch) -> None:
    decoded: list[str] = []
    original = table_module.read_picture
    monkeypatch.setattr(
        table_module, "read_picture", lambda s, *a, **k: decoded.append(str(s)) or original(s, *a, **k)
    )
    for attempt in range(2):
        pool = cached(open_pool(f"p={place.folder / 'p'}"), tmp_path / "cache")
        methods = [parse_method(m) for m in ("zero-shot", "prompt-lora[steps=1]")]
        with Store(tmp_path / f"{attempt}.db") as store:
            run_grid(Grid([pool], [1], methods, 3, queries=3), place.encoder, store)
    assert len(decoded) == len(set(decoded)) > 0


def test_features_are_computed_once_per_image(place: Place, tmp_path: Path, monkeypatch) -> None:
    encoder = load_encoder(place.folder / "m")
    encoded = []
    original = encoder.forward_images
    monkeypatch.setattr(
        encoder, "forward_images", lambda x, *a: encoded.append(x.shape[1]) or original(x, *a)
    )
    with Store(tmp_path / "r.db") as store:
        run_grid(place.grid(methods=["zero-shot", "zero-shot[scale=5]"], tasks=8), encoder, store)
    assert sum(encoded) <= 40  # the pool has 40 images; 16 tasks twice have 480 queries


def test_results_of_a_task_do_not_depend_on_its_companions(place: Place) -> None:
    grid = place.grid(shots=[1])
    cell = grid.cells[2]
    together = cell.method.adapt(place.encoder, tasks_of(grid, cell, [0, 1, 2]))
    alone = cell.method.adapt(place.encoder, tasks_of(grid, cell, [1]))
    task = tasks_of(grid, cell, [1])[0]
    one, other = (a.logits(task.table, task.query) for a in (together[1], alone[0]))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_method_that_fails_names_its_cell(place: Place, tmp_path: Path) -> None:
    grid = place.grid(methods=["prompt-lora[steps=3,views=none,lora_lr=1e30]"], shots=[1])
    with (
        Store(tmp_path / "r.db") as store,
        pytest.raises(FarshotError, match=r"p, 1 shot, prompt-lora.*finite"),
    ):
        run_grid(grid, place.encoder, store)


def test_specs_of_methods() -> None:
    assert label(parse_method("atha[views=none, variant=released]")) == "atha[views=none,variant=released]"
    assert label(parse_method("atha[rho=0.1,steps=100]")) == "atha"  # spells out its defaults
    assert label(parse_method("atha[fixed=true]")) == "atha[fixed=true]"
    for wrong in ("atha[", "atha[rho]", "atha[rho=1,rho=2]", "athena", "atha[ro=1]"):
        with pytest.raises(SettingError):
            parse_method(wrong)


def test_load_is_chosen_by_memory_and_cost_counts_images(place: Place) -> None:
    prompt_lora, zero_shot = parse_method("prompt-lora"), parse_method("zero-shot")
    assert images_per_step(prompt_lora, Shape(5, 5, 15)) == 125
    assert images_per_step(parse_method("clip-lora"), Shape(5, 16, 15)) == 32
    assert images_per_step(zero_shot, Shape(5, 5, 15)) == 0
    assert cost(prompt_lora, Shape(5, 1, 15), 75) == 2 * 25 * 100 + 75
    assert choose_load(prompt_lora, place.encoder, Shape(), tasks=3).tasks == 3
    assert choose_load(prompt_lora, place.encoder, Shape()).micro_batch is None
    assert choose_load(zero_shot, place.encoder, Shape()).tasks > 1


def test_what_a_task_learns_takes_room_too(mini, monkeypatch):
    """A tower per task with gradient and two averages: 2.5 million weights of 16 bytes."""
    monkeypatch.setattr("farshot.bench.load.memory_of_machine", lambda: 500_000_000)
    full, bitfit = create("full", {"views": "none"}), create("bitfit", {"views": "none"})
    assert 1 <= choose_load(full, mini, Shape()).tasks < choose_load(bitfit, mini, Shape()).tasks
    shown = choose_load(full, mini, Shape(), tasks=5)
    assert shown.tasks == 5 and shown.micro_batch is not None


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _never(seconds: float) -> None:
    raise AssertionError("nobody else is at work: the claims of a killed process are free at once")
