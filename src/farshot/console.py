"""What a person sees in a terminal: progress with time left, tables, and one sentence where something is
wrong."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from farshot.errors import FarshotError
from farshot.evaluation import Evaluation
from farshot.stats import Interval

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the error stream; the function it gives takes (done, in all)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        line = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


def run(app: Callable[[], Any]) -> None:
    """Runs the command line; what is wrong with input is one sentence and exit code 2, never a traceback."""
    warnings.showwarning = lambda message, *_args, **_more: err.print(f"Note: {message}", markup=False)
    try:
        app()
    except FarshotError as error:
        err.print(f"farshot: {error}", markup=False, style="red")
        sys.exit(EXIT_REFUSED)
    except KeyboardInterrupt:
        err.print("farshot: stopped; nothing half-written is left behind.", markup=False)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def percent(interval: Interval) -> str:
    """A share in per cent with its 95 % interval."""
    if not np.isfinite(interval.mean):
        return "-"
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def print_json(value: Any) -> None:
    """Machine-readable output on the standard stream."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_evaluation(evaluation: Evaluation, title: str) -> None:
    """Accuracy, one row per class, and the confusion matrix."""
    images = int(evaluation.confusion.sum())
    out.print(
        f"{title}: accuracy {percent(evaluation.accuracy)} % (95 % interval) on {images} images", markup=False
    )
    out.print(
        f"calibration error {100 * evaluation.calibration_error:.1f} points, log-loss "
        f"{evaluation.nll:.3f} nats\n",
        markup=False,
    )
    table = Table("class", "images", "recall %", "precision %")
    for name, count, recall, precision in zip(
        evaluation.classes, evaluation.confusion.sum(1), evaluation.recall, evaluation.precision, strict=True
    ):
        table.add_row(_plain(name), str(count), _plain(percent(recall)), _plain(percent(precision)))
    out.print(table)
    matrix = Table("true \\ predicted", *(_plain(name) for name in evaluation.classes))
    for name, row in zip(evaluation.classes, evaluation.confusion, strict=True):
        matrix.add_row(_plain(name), *map(str, row))
    out.print(matrix)


def _plain(text: object) -> str:
    """Class names are text, not rich's markup."""
    return str(text).replace("[", r"\[")
