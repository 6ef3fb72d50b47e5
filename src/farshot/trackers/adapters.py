"""What farshot tells TensorBoard, MLflow and Weights & Biases. Each is imported when it is first used."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from farshot.errors import DataError, SettingError
from farshot.storage.paths import home
from farshot.training.tracking import Outcome, Tracker

_MOST_NAME = 200
_MOST_VALUE = 500  # characters that MLflow keeps of a parameter


class _Named(Tracker):
    """Keeps settings apart that arrive several times under one name, as from two fits."""

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()

    def _once(self, name: str) -> str:
        self._told[name] += 1
        return name if self._told[name] == 1 else f"{name}-{self._told[name]}"


class TensorBoard(_Named):
    """Event files for `tensorboard --logdir FOLDER`.

    Args:
        folder: made if it does not exist; each use adds a file.

    Raises:
        SettingError: TensorBoard is not installed.
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        _module("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        try:
            home(folder).mkdir(parents=True, exist_ok=True)
            self._writer: Any = SummaryWriter(str(home(folder)))
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written ({error.strerror}); choose another folder."
            ) from error

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """As a table under "text"."""
        rows = "\n".join(f"| {key} | {_written(value)} |" for key, value in settings.items())
        self._writer.add_text(f"{self._once(name)}/settings", f"| setting | value |\n|---|---|\n{rows}")

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """As the scalar "loss"."""
        self._writer.add_scalar("loss", loss, step)

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        """As a scalar for each cell, by the task's number."""
        self._writer.add_scalar(f"tasks/{_name(cell)}", accuracy, task)

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        """As scalars."""
        for key, value in values.items():
            self._writer.add_scalar(f"{_name(name)}/{key}", value, 0)

    def close(self, outcome: Outcome = "finished") -> None:
        """Write what is left; TensorBoard knows no outcome."""
        self._writer.close()


class MLflow(_Named):
    """A run of an MLflow experiment.

    Args:
        place: a folder, for MLflow's file store; a database URI such as "sqlite:///runs.db"; or the address
            of a server.
        experiment: made if it does not exist.

    Raises:
        SettingError: MLflow is not installed.
        DataError: MLflow refuses the place.
    """

    def __init__(self, place: str | Path, experiment: str = "farshot") -> None:
        super().__init__()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        os.environ.setdefault("DO_NOT_TRACK", "true")
        text = str(place)
        if "://" not in text:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            text = home(place).absolute().as_uri()
        mlflow = _module("mlflow", "mlflow")
        self._place, self._refusal = place, mlflow.exceptions.MlflowException
        try:
            self._client = mlflow.MlflowClient(tracking_uri=text)
            known = self._client.get_experiment_by_name(experiment)
            number = known.experiment_id if known else self._client.create_experiment(experiment)
            self._run = self._client.create_run(number).info.run_id
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise DataError(f"MLflow cannot use {place} ({_line(error)}); choose another place.") from error

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """As parameters."""
        once = self._once(name)
        for key, value in settings.items():
            self._log(self._client.log_param, _name(f"{once}/{key}"), _written(value)[:_MOST_VALUE])

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """As the metric "loss"."""
        self._log(self._client.log_metric, "loss", loss, step=step)

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        """As a metric for each cell, by the task's number."""
        self._log(self._client.log_metric, f"tasks/{_name(cell)}", accuracy, step=task)

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        """As metrics."""
        for key, value in values.items():
            self._log(self._client.log_metric, f"{_name(name)}/{key}", value)

    def close(self, outcome: Outcome = "finished") -> None:
        """Mark the run as finished, killed or failed."""
        status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[outcome]
        self._log(self._client.set_terminated, status)

    def _log(self, tell: Callable[..., Any], *values: Any, **more: Any) -> None:
        try:
            tell(self._run, *values, **more)
        except (self._refusal, OSError) as error:
            raise DataError(
                f"MLflow at {self._place} cannot record ({_line(error)}); check it, or leave out the tracker."
            ) from error


class WeightsAndBiases(_Named):
    """A run of a project of Weights & Biases, which sends it to its server; WANDB_MODE=offline keeps it here.

    Args:
        project: its name.

    Raises:
        SettingError: wandb is not installed.
        DataError: it cannot start a run.
    """

    def __init__(self, project: str) -> None:
        super().__init__()
        wandb = _module("wandb", "wandb")
        try:
            self._run = wandb.init(project=project)
        except (wandb.errors.Error, OSError) as error:
            raise DataError(
                f"Weights & Biases cannot start a run ({_line(error)}); run `wandb login`, or set "
                "WANDB_MODE=offline."
            ) from error

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """As the run's configuration."""
        once = self._once(name)
        self._run.config.update({f"{once}/{key}": _written(value) for key, value in settings.items()})

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """As "loss"."""
        self._run.log({"loss": loss, "step": step})

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        """As a metric for each cell."""
        self._run.log({f"tasks/{_name(cell)}": accuracy, "task": task})

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        """As the run's summary."""
        self._run.summary.update({f"{_name(name)}/{key}": value for key, value in values.items()})

    def close(self, outcome: Outcome = "finished") -> None:
        """Finish the run; one that is not done has the exit code 1."""
        self._run.finish(exit_code=int(outcome != "finished"))


_KINDS = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}


def open_tracker(spec: str) -> Tracker:
    """The tracker that a text such as "tensorboard:runs", "mlflow:mlruns" or "wandb:PROJECT" names.

    Raises:
        SettingError: not of this form, or the tracker is not installed.
        DataError: the tracker refuses the place.
    """
    kind, colon, place = spec.partition(":")
    if not colon or not place or kind not in _KINDS:
        raise SettingError(
            f"A tracker is written tensorboard:FOLDER, mlflow:FOLDER or wandb:PROJECT, not {spec!r}."
        )
    return _KINDS[kind](place)


def _module(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise SettingError(f'This tracker needs {name}: pip install "farshot[{extra}]".') from error


def _name(text: str) -> str:
    """A name that all of them take."""
    return re.sub(r"[^\w. /-]+", "_", text)[:_MOST_NAME].strip()


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
