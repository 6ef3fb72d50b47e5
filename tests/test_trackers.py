"""Experiment trackers hear settings, losses, tasks and results, and their programs read what they write."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from farshot import FewShotClassifier
from farshot.bench.grid import Grid, parse_method
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.cli.console import Stopped, at_end
from farshot.cli.options import use_trackers
from farshot.data.pools import open_pool
from farshot.errors import DataError, SettingError
from farshot.model.find import load_encoder
from farshot.trackers import MLflow, TensorBoard, Tracker, WeightsAndBiases, open_tracker, track
from tests.bench_helpers import folder_pool
from tests.input_helpers import QUICK, Farshot, refusal

STEPS = {"steps": 3, "views": "none", "rank": 1}


class Heard(Tracker):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.settings: dict[str, Mapping[str, object]] = {}
        self.steps: list[tuple[int, int, float]] = []
        self.tasks: list[tuple[str, int, float]] = []
        self.results: dict[str, Mapping[str, float]] = {}

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        self.settings[name] = settings

    def on_step(self, step: int, steps: int, loss: float) -> None:
        self.steps.append((step, steps, loss))

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        self.tasks.append((cell, task, accuracy))

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        self.results[name] = values


def labelled(place: Path) -> tuple[list[Path], list[str]]:
    images = sorted((place / "data").rglob("*.png"))
    return images, [image.parent.name for image in images]


def test_a_fit_tells_its_settings_its_losses_and_its_results(place: Path) -> None:
    heard, (images, labels) = Heard(), labelled(place)
    classifier = FewShotClassifier(place / "clip", "prompt-lora", settings=STEPS, device="cpu", seed=4)
    with track(heard):
        found = classifier.estimate(images, labels)
        assert heard.steps == []  # the folds' losses are not those of the model
        classifier.fit(images, labels)
        evaluated = classifier.evaluate(images, labels, include_support=True)
    assert [step[:2] for step in heard.steps] == [(1, 3), (2, 3), (3, 3)]
    assert [step[2] for step in heard.steps] == pytest.approx(classifier.losses_.tolist())
    told = heard.settings["fit"]
    assert (told["method"], told["steps"], told["seed"], told["images"]) == ("prompt-lora", 3, 4, 9)
    assert told["classes"] == ["cat", "dog", "owl"] and told["model"] == "clip"  # no path
    assert heard.results["estimate"] == found.values()
    assert heard.results["evaluate"]["accuracy"] == evaluated.accuracy.mean
    assert heard.results["evaluate"]["accuracy_low"] == evaluated.accuracy.low
    assert heard.results["evaluate"]["balanced_accuracy_high"] == evaluated.balanced_accuracy.high
    classifier.fit(images, labels)
    assert len(heard.steps) == 3  # told nothing outside


def test_a_grid_tells_tasks_and_cells(place: Path, tmp_path: Path) -> None:
    heard = Heard()
    pool = open_pool(f"p={folder_pool(tmp_path / 'p', images=5)}")
    methods = [parse_method("zero-shot"), parse_method("prompt-lora[steps=2,views=none,rank=1]")]
    grid = Grid([pool], [1], methods, tasks=4, queries=3)
    with Store(tmp_path / "r.db") as store, track(heard):
        run_grid(grid, load_encoder(place / "clip"), store, tasks_per_batch=2)
        accuracy = {run: store.series(run).accuracy for run in store.runs()}
    ((bench, told),) = heard.settings.items()
    assert (told["model"], told["seed"], told["precision"], told["ways"]) == ("clip", 1, "float32", {"p": 5})
    assert (told["queries"], told["protocol"]) == (3, "episodes") and "{}" in told["template"]
    methods = ("zero-shot", "prompt-lora[steps=2,views=none,rank=1]")
    names = [f"p, 1 shot, {method}, 5-way, {bench}" for method in methods]
    assert heard.steps == []
    for (run, values), name in zip(accuracy.items(), names, strict=True):
        assert run
        assert [task[1:] for task in heard.tasks if task[0] == name] == list(enumerate(values.tolist()))
        assert heard.results[name]["accuracy"] == pytest.approx(np.mean(values))
        half = 1.96 * np.std(values, ddof=1) / np.sqrt(4)
        ends = [heard.results[name][f"accuracy_{end}"] for end in ("low", "high")]
        assert ends == pytest.approx([np.mean(values) - half, np.mean(values) + half])
        assert heard.results[name]["tasks"] == 4


def test_benches_of_other_numbers_are_kept_apart(place: Path, tmp_path: Path) -> None:
    heard = Heard()
    pool = open_pool(f"p={folder_pool(tmp_path / 'p', images=5)}")
    encoder = load_encoder(place / "clip")
    grids = [Grid([pool], [1], [parse_method("zero-shot")], 2, *more, 3) for more in ((1, 5), (2, 5), (1, 2))]
    with Store(tmp_path / "r.db") as store, track(heard):
        for grid in (*grids, grids[0]):
            run_grid(grid, encoder, store)
        run_grid(grids[0], load_encoder(place / "clip", precision="bf16"), store)
    assert len(heard.results) == 4  # the same bench again is the same curve
    assert len(heard.settings) == 3 and {task[0] for task in heard.tasks} == set(heard.results)


def test_tensorboard_reads_what_adapt_writes(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    out, runs = tmp_path / "adapted", tmp_path / "runs"
    adapt = ("adapt", place / "data", "--model", place / "clip", "--out", out, "--method", "prompt-lora")
    adapt += ("--set", "steps=3", "--set", "views=none", "--set", "rank=1", "--device", "cpu", "--estimate")
    also = ("--track", f"mlflow:{tmp_path / 'mlruns'}")
    told = farshot(*adapt, "--track", f"tensorboard:{runs}", *also)
    assert told.code == 0, told.err
    assert list((tmp_path / "mlruns").glob("*/*/metrics/loss"))
    events = EventAccumulator(str(runs)).Reload()
    assert [one.step for one in events.Scalars("loss")] == [1, 2, 3]
    assert all(np.isfinite(one.value) for one in events.Scalars("loss"))
    assert 0 <= events.Scalars("estimate/accuracy")[0].value <= 1
    assert "fit/settings/text_summary" in events.Tags()["tensors"]


def test_mlflow_reads_what_a_fit_writes(place: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    images, labels = labelled(place)
    classifier = FewShotClassifier(place / "clip", "prompt-lora", settings=STEPS, device="cpu")
    tracker = open_tracker(f"mlflow:{tmp_path / 'runs'}")
    with track(tracker):
        classifier.fit(images, labels)
        tracker.on_settings("fit", {"rank": 2})  # a second fit, as of adapt with --minutes
        classifier.evaluate(images, labels, include_support=True)
    tracker.close()
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    experiment = client.get_experiment_by_name("farshot")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["fit/steps"] == "3"
    assert (run.data.params["fit/rank"], run.data.params["fit-2/rank"]) == ("1", "2")
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(one.step for one in losses) == [1, 2, 3]
    assert 0 <= run.data.metrics["evaluate/accuracy"] <= 1
    client.delete_run(run.info.run_id)
    with pytest.raises(DataError, match=r"MLflow at .*runs cannot record"):
        tracker.on_result("evaluate", {"accuracy": 1.0})


def test_runs_that_are_not_done_are_not_called_finished(place: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    for outcome, status in (("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")):
        tracker = open_tracker(f"mlflow:{tmp_path / 'runs'}")
        tracker.close(outcome)
        number = client.get_experiment_by_name("farshot").experiment_id
        assert client.search_runs([number], max_results=1)[0].info.status == status


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "FINISHED"), (SystemExit(0), "FINISHED"), (KeyboardInterrupt(), "KILLED"), (Stopped(), "KILLED"),
     (SystemExit(2), "FAILED"), (DataError("x"), "FAILED")],
)  # fmt: skip
def test_a_command_says_how_it_ended(error: BaseException | None, outcome: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    with suppress(BaseException), at_end:
        use_trackers([f"mlflow:{tmp_path}"])
        if error is not None:
            raise error
    (meta,) = tmp_path.glob("*/*/meta.yaml")
    statuses = {"3": "FINISHED", "4": "FAILED", "5": "KILLED"}
    assert statuses[meta.read_text().partition("status: ")[2][0]] == outcome


def test_wandb_is_given_what_its_interface_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []

    class Run:
        def __init__(self) -> None:
            self.config: dict[str, Any] = {}
            self.summary: dict[str, Any] = {}

        def log(self, values: dict[str, Any]) -> None:
            logged.append(values)

        def finish(self, exit_code: int) -> None:
            logged.append(f"finished with {exit_code}")

    run = Run()

    class Module:
        errors = type("errors", (), {"Error": RuntimeError})

        @staticmethod
        def init(project: str) -> Run:
            assert project == "leaves"
            return run

    monkeypatch.setitem(sys.modules, "wandb", Module)
    tracker = open_tracker("wandb:leaves")
    tracker.on_settings("fit", {"steps": 3})
    tracker.on_settings("fit", {"steps": 4})
    tracker.on_step(1, 3, 0.5)
    tracker.on_task("p, 1 shot, atha", 7, 0.25)
    tracker.on_result("estimate", {"accuracy": 0.75})
    tracker.close()
    assert run.config == {"fit/steps": "3", "fit-2/steps": "4"}
    assert run.summary == {"estimate/accuracy": 0.75}
    assert logged == [{"loss": 0.5, "step": 1}, {"tasks/p_ 1 shot_ atha": 0.25, "task": 7}, "finished with 0"]
    tracker.close("stopped")
    assert logged[-1] == "finished with 1"


def test_what_is_no_tracker_is_refused(
    farshot: Farshot, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt = ("adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "adapted", *QUICK)
    for spec in ("tensorboard", "tensorboard:", "neptune:x", ":x"):
        assert "is written tensorboard:FOLDER" in refusal(farshot(*adapt, "--track", spec))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(farshot(*adapt, "--track", f"tensorboard:{tmp_path / 'file'}"))
    for name, kind in (("tensorboard", TensorBoard), ("mlflow", MLflow), ("wandb", WeightsAndBiases)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(SettingError, match=rf'pip install "farshot\[{name}\]"'):
            kind(str(tmp_path / "x"))
    assert not (tmp_path / "adapted").exists()
