"""A grid is the same whichever machines compute it, and whichever of them die on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from farshot.bench.grid import Cell, Grid, parse_method
from farshot.bench.load import Load
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.bench.worker import Chunk, Here, Setup, Worker, setup_for
from farshot.data.cache import cached
from farshot.data.pools import open_pool
from farshot.errors import FarshotError, SettingError
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.workers.cluster import Needs
from farshot.workers.executors import Finished, Lost
from farshot.workers.machines import Machines
from farshot.workers.processes import Processes, ProcessMember, devices_for, serve_chunks
from tests.bench_helpers import folder_pool, tiny_checkpoint
from tests.machines import MAIN, ONE_THREAD, kill, started, workers_alive
from tests.same_rows import difference

METHODS = ("zero-shot", "prompt-lora[steps=5,views=none]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines")
    folder_pool(folder / "p", images=8)
    tiny_checkpoint(folder / "m")
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder / "m")


def grid_of(folder: Path, tasks: int = 6, methods: Sequence[str] = METHODS) -> Grid:
    pool = cached(open_pool(f"p={folder / 'p'}"), folder / "cache")
    return Grid([pool], [1], [parse_method(m) for m in methods], tasks, queries=3)


def same(a: Path, b: Path) -> bool:
    with Store(a, read_only=True) as one, Store(b, read_only=True) as other:
        return difference(one, other).same


def rows_in(store: Path) -> int:
    try:
        with Store(store, read_only=True) as found:
            return len(found.query("SELECT run FROM results"))
    except FarshotError:  # not there yet
        return 0


def fill(path: Path, grid: Grid, encoder: Encoder, executor=None) -> Path:
    with Store(path) as store:
        run_grid(grid, encoder, store, executor=executor, tasks_per_batch=2)
        assert store.query("SELECT * FROM claims") == []
    return path


class Unlucky(Here):
    """Its worker dies with some of its chunks."""

    def __init__(self, worker: Worker, dies: Callable[[Chunk], bool]) -> None:
        super().__init__(worker)
        self.dies, self.given, self.lost = dies, [], 0

    def give(self, worker: int, chunk: Chunk) -> None:
        super().give(worker, chunk)
        self.given.append(chunk)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        chunk = self._chunk
        if chunk and self.dies(chunk):
            self._chunk, self.lost = None, self.lost + 1
            return [Lost(chunk, "a lost cable")]
        return super().wait(seconds)


def test_a_lost_chunk_is_computed_by_another_worker(folder: Path, encoder: Encoder, tmp_path: Path):
    grid = grid_of(folder)
    seen: set[Chunk] = set()

    def once(chunk: Chunk) -> bool:
        new = chunk not in seen
        seen.add(chunk)
        return new

    executor = Unlucky(Worker(grid, encoder, tasks_per_batch=2), once)
    lossy = fill(tmp_path / "lossy.db", grid, encoder, executor)
    assert executor.lost == 6
    assert same(lossy, fill(tmp_path / "whole.db", grid, encoder))


def test_tasks_that_kill_every_worker_are_named(folder: Path, encoder: Encoder, tmp_path: Path):
    grid = grid_of(folder, methods=["zero-shot"])
    executor = Unlucky(Worker(grid, encoder, tasks_per_batch=2), lambda chunk: 2 in chunk.indices)
    with pytest.raises(
        FarshotError, match=r"p, 1 shot, zero-shot, tasks 2 to 3: 3 workers died.*a lost cable"
    ):
        fill(tmp_path / "r.db", grid, encoder, executor)
    assert executor.lost == 3


def test_a_lost_chunk_is_cut_to_what_its_next_worker_can_take(folder: Path, encoder: Encoder, tmp_path: Path):
    grid = grid_of(folder, methods=["zero-shot"])
    executor = Unlucky(Worker(grid, encoder, tasks_per_batch=4), lambda chunk: len(chunk.indices) == 4)
    small = (Load(3),)
    executor.loads = lambda worker: small if executor.lost else (Load(4),)  # type: ignore[method-assign]
    fill(tmp_path / "r.db", grid, encoder, executor)
    assert [chunk.indices for chunk in executor.given] == [(0, 1, 2, 3), (0, 1, 2), (3,), (4, 5)]


@pytest.mark.slow
def test_several_processes_store_what_one_does_though_one_of_them_is_killed(
    folder: Path, encoder: Encoder, tmp_path: Path
):
    grid = grid_of(folder, tasks=8)

    class Killing(Processes):
        """Kills the first worker as soon as it has a chunk."""

        killed = 0

        def give(self, worker: int, chunk: Chunk) -> None:
            super().give(worker, chunk)
            if not Killing.killed:
                Killing.killed = self.members[worker].process.pid or 0
                self.members[worker].process.kill()

    with Killing(setup_for(grid, encoder, tasks_per_batch=2), ["cpu", "cpu"]) as processes:
        several = fill(tmp_path / "several.db", grid, encoder, processes)
        children = [member.process.pid for member in processes.members.values()]
        assert Killing.killed and Killing.killed not in children
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert same(several, fill(tmp_path / "one.db", grid, encoder))


def test_a_worker_with_another_model_is_refused(folder: Path, encoder: Encoder):
    setup = setup_for(grid_of(folder), encoder)
    other = type(setup)(**{**vars(setup), "fingerprint": "0" * 32})
    with pytest.raises(FarshotError, match="is not the driver's; copy the same"):
        other.worker("cpu")
    with pytest.raises(FarshotError, match=r"has farshot .*, the driver 0\.0; install the same"):
        type(setup)(**{**vars(setup), "version": "0.0"}).worker("cpu")


@pytest.mark.slow
def test_what_a_worker_refuses_reaches_the_driver(folder: Path, encoder: Encoder, tmp_path: Path):
    grid = grid_of(folder, methods=["prompt-lora[steps=3,views=none,lora_lr=1e30]"])
    with (
        Processes(setup_for(grid, encoder), ["cpu", "cpu"]) as processes,
        pytest.raises(FarshotError, match=r"p, 1 shot, prompt-lora.*finite"),
    ):
        fill(tmp_path / "r.db", grid, encoder, processes)


class Ended(BaseProcess):
    """A process that was once."""

    exitcode = 0

    def join(self, timeout: float | None = None) -> None:
        """At once."""


def test_a_worker_that_breaks_says_of_what_before_it_ends(folder: Path, encoder: Encoder, monkeypatch):
    """Also where the error is one that a closed pipe could raise."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    setup = setup_for(grid_of(folder), encoder)
    processes = Processes(setup, ["cpu"])
    for where in ("worker", "compute"):

        def broken(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Setup if where == "worker" else Worker, where, broken)
        here, there = Pipe()
        here.send(Chunk(0, (0,)))
        serve_chunks(there, setup, "cpu", 1, 1.0)
        there.close()
        monkeypatch.undo()
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr("farshot.workers.processes.MOST_STARTS", 0)  # so that no other is started
        processes.members[0] = ProcessMember(process=Ended(), connection=here)
        with pytest.raises(FarshotError, match=r"a worker on cpu ended with OSError: .*Input/output error"):
            while True:
                processes.wait(1)


class Heard:
    """The progress reports of a whole grid."""

    def __init__(self) -> None:
        self.total = self.done = 0.0
        self.cells: list[int] = []

    def begin(self, work: float, done: float) -> None:
        self.total, self.done = work, done

    def working(self, cell: Cell, work: float) -> None:
        assert work <= self.total

    def stored(self, work: float) -> None:
        self.done += work

    def finished(self, cell: Cell, accuracy: Sequence[float], seconds: float) -> None:
        self.cells.append(len(accuracy))


def test_no_more_is_under_way_than_workers_can_hold(folder: Path, encoder: Encoder, tmp_path: Path):
    """However slow they are, a worker has one chunk, and nothing else is claimed."""

    class Slow(Here):
        """Three workers who share one; each looks at the store before it computes."""

        def __init__(self, worker: Worker, store: Path) -> None:
            super().__init__(worker)
            self.store, self.chunks, self.claimed = store, {}, []

        def idle(self) -> Sequence[int]:
            return [worker for worker in range(3) if worker not in self.chunks]

        def give(self, worker: int, chunk: Chunk) -> None:
            assert worker not in self.chunks
            self.chunks[worker] = chunk

        def wait(self, seconds: float) -> list[Finished | Lost]:
            with Store(self.store, read_only=True) as store:
                self.claimed.append(len(store.query("SELECT * FROM claims")))
            self._chunk = self.chunks.pop(min(self.chunks))
            return super().wait(seconds)

    grid = grid_of(folder, tasks=20, methods=["zero-shot"])
    executor, watcher = Slow(Worker(grid, encoder, tasks_per_batch=2), tmp_path / "r.db"), Heard()
    with Store(tmp_path / "r.db") as store:
        run_grid(grid, encoder, store, executor=executor, watcher=watcher)
    assert max(executor.claimed) == 6  # three workers, two tasks each
    assert rows_in(tmp_path / "r.db") == 20
    assert watcher.total > 0 and watcher.done == pytest.approx(watcher.total)
    assert watcher.cells == [20]


def test_devices_and_needs_of_workers():
    assert devices_for("cpu") == ["cpu"]
    assert devices_for("cpu", 3) == ["cpu"] * 3
    assert Machines(device="cpu").driver_device == "cpu"
    assert Needs(cpus=2).room({"CPU": 5.0}) == 2
    assert Needs(cpus=1, gpus=0.5).room({"CPU": 16.0, "GPU": 3.0}) == 6
    assert Needs(cpus=1, gpus=0.25).room({"CPU": 3.0, "GPU": 3.0}) == 3
    assert Needs(gpus=1).room({"CPU": 4.0}) == 0
    assert Needs(cpus=0, gpus=0.6).room({"GPU": 3.0}) == 3  # what is left of each GPU is too little
    assert Needs(cpus=0, gpus=0.5).room({"GPU": 1.5}) == 3
    nodes = [{"Alive": True, "Resources": {"CPU": n}} for n in (1.0, 3.0)]
    nodes += [{"Alive": False, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {}}]
    assert [Needs(cpus=n).most(nodes) for n in (1, 2, 4)] == [4, 1, 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "gpu"}, "There is no device 'gpu'"),
        ({"device": "meta:x"}, "There is no device 'meta:x'"),
        ({"executor": "slurm"}, "no executor 'slurm'; choose local or ray"),
        ({"address": "auto"}, "are Ray's; add --executor ray"),
        ({"gpus": 0.5}, "are Ray's; add --executor ray"),
        ({"executor": "ray", "gpus": 2.0}, "one GPU at most, not 2"),
        ({"executor": "ray", "gpus": 0.0, "cpus": 0.0}, "needs processors or GPUs"),
        ({"executor": "ray", "gpus": -1.0}, "needs processors or GPUs"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object], says: str):
    with pytest.raises(SettingError, match=says):
        Machines(**options).devices  # type: ignore[arg-type]  # noqa: B018


def test_without_ray_one_sentence_says_what_to_install(folder: Path, encoder: Encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(SettingError, match=r'pip install "farshot\[ray\]"'),
        Machines(executor="ray").open(partial(setup_for, grid_of(folder), encoder)),
    ):
        pass


def bench_command(folder: Path, store: Path, *more: str) -> list[str]:
    methods = ["zero-shot", "prompt-lora[steps=5,views=none]", "atha[steps=5,views=none]"]
    arguments = ["bench", "--pools", f"p={folder / 'p'}", "--shots", "1", "2", "--methods", *methods]
    arguments += ["--tasks", "40", "--queries", "3", "--tasks-per-batch", "2", "--device", "cpu"]
    arguments += ["--model", str(folder / "m"), "--cache", str(folder / "cache")]
    return [sys.executable, "-c", MAIN, *arguments, "--store", str(store), *more]


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Path:
    """The grid of 240 tasks, computed by one process."""
    store = folder / "whole.db"
    subprocess.run(bench_command(folder, store), check=True, env=ONE_THREAD, stderr=subprocess.DEVNULL)
    assert rows_in(store) == 240
    return store


def until(rows: int, store: Path, driver: subprocess.Popen[str]) -> None:
    """Waits for so many rows, while the driver lives."""
    while rows_in(store) < rows:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)


def goes_on(command: list[str], store: Path, undisturbed: Path) -> None:
    """The same command once more finishes what is left, and the store is that of an undisturbed run."""
    assert 0 < rows_in(store) < 240
    again = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert rows_in(store) == 240
    assert same(undisturbed, store)
    with Store(store, read_only=True) as found:
        assert found.query("SELECT * FROM claims") == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.timeout(900)
def test_worker_node_and_driver_die_on_a_ray_cluster(folder: Path, tmp_path: Path, undisturbed, two_nodes):
    store = tmp_path / "ray.db"
    command = bench_command(folder, store, "--executor", "ray", "--address", two_nodes.address)
    driver = started(command)
    until(10, store, driver)
    workers_alive()[0].kill()
    until(rows_in(store) + 20, store, driver)
    two_nodes.remove_node(two_nodes.nodes_for_test[1], allow_graceful=False)
    until(rows_in(store) + 20, store, driver)
    kill(driver)
    assert rows_in(store) >= 50
    goes_on(command, store, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_service_manager_ends_a_driver_of_ray_as_ctrl_c_does(folder: Path, tmp_path: Path, undisturbed):
    store = tmp_path / "ended.db"
    driver = started(bench_command(folder, store, "--executor", "ray", "--workers", "1"))
    until(10, store, driver)
    driver.terminate()
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 143, said
    assert said.rstrip().endswith(f"stopped; {store} holds all finished tasks, and the same command goes on.")
    goes_on(bench_command(folder, store), store, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_driver_of_several_processes_dies(folder: Path, tmp_path: Path, undisturbed):
    """Its workers end by themselves, with the chunk they have."""
    store = tmp_path / "several.db"
    command = bench_command(folder, store, "--workers", "2")
    driver = started(command)
    until(10, store, driver)
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert len(workers) >= 2
    kill(driver)
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    goes_on(command, store, undisturbed)


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1"])
def test_no_cluster_at_the_address_is_one_sentence(folder: Path, encoder: Encoder, address: str):
    with (
        pytest.raises(SettingError, match=rf"^No Ray cluster answers at '{address}'.*ray start --head"),
        Machines(executor="ray", address=address).open(partial(setup_for, grid_of(folder), encoder)),
    ):
        pass
