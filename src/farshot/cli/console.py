"""Terminal output: progress with the remaining time, tables, and errors in one sentence."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text
from typer.core import TyperGroup

from farshot.cli import streams
from farshot.errors import FarshotError
from farshot.model.catalogue import toy_note
from farshot.sanitize import visible

if TYPE_CHECKING:  # what computes takes a second to import; `--help` does without
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable
    from farshot.evaluation.intervals import Interval
    from farshot.evaluation.metrics import Evaluation


class SafeConsole(Console):
    """A console that names of files and classes cannot steer."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints, control characters escaped."""
        safe = [visible(one, lines=True) if isinstance(one, str) else one for one in objects]
        super().print(*safe, **options)


out = SafeConsole(highlight=False, soft_wrap=True, emoji=False)
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True, emoji=False)

EXIT_BUG = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130

MOST_CLASSES = 40  # that `farshot evaluate` shows
_MOST_COLUMNS, _MOST_PAIRS = 12, 20
"""Most classes in a table; columns of a confusion matrix, and rows of the list that replaces a larger one."""

_TEXT_WIDTH = 90

_ARGUMENT = re.compile(
    r"(?<!\S)(?P<name>include_support|calibrate|download|model|replace_card|runtime)=(?P<value>True|PLACE|NAME|FOLDER)(?![\w=/])"
)
"""A Python argument that library messages name; anything else, such as a path, stays as it is."""

_SILENT = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
"""Warnings for those who write programs."""


class Stopped(Exception):
    """Ctrl-C, in a form that typer does not catch; typer would end the program without a message.

    Its text is the farewell, the only one; a command raises it in place of KeyboardInterrupt to say more than
    the usual one.
    """

    def __init__(self, farewell: str = "stopped; nothing half-written is left behind.") -> None:
        super().__init__(farewell)


class Commands(TyperGroup):
    """Commands that end with one message after Ctrl-C, and silently when the reader of a pipe has gone."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parses the command line; `--help` prints here."""
        with _past_typer():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Runs the chosen command."""
        with _past_typer():
            return super().invoke(ctx)


@contextlib.contextmanager
def _past_typer() -> Iterator[None]:
    """Exceptions that typer would end the program with, as those that it lets pass."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped from None
    except OSError as error:
        if streams.is_broken_pipe(error):
            raise streams.ReaderGone from error
        raise


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the error stream; yields a function of (done, total)."""
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


def note_on_toy(model: str) -> None:
    """Say that the bundled model is a toy, where it is the one that is used."""
    if note := toy_note(model):
        err.print(f"Note: {note} `farshot encoders` lists real ones for --model.", markup=False)


@contextlib.contextmanager
def progress_of(
    classifier: FewShotClassifier,
    description: str,
    *,
    told: Callable[[float], None] | None = None,
    seconds: float | None = None,
) -> Iterator[None]:
    """Show a bar on the error stream for a classifier's work.

    Args:
        told: called once with the seconds that the work will take, from its first steps.
        seconds: that it may take; more raises TooLong (farshot.training.forecast).
    """
    from farshot.training.forecast import Forecast

    with progress(description) as update:
        classifier.set_params(progress=Forecast(update, told=told, seconds=seconds))
        try:
            yield
        finally:
            classifier.set_params(progress=None)


def run(app: Callable[[], Any]) -> None:
    """Run the command line; an error of the input is one sentence and exit code 2, without a traceback.

    Ctrl-C is one farewell and 130, SIGTERM and SIGHUP the same with 143 and 129; a reader that has gone, as
    `head` does, is no word and 141.
    FARSHOT_TRACEBACK=1 shows where an error comes from.
    """
    warnings.showwarning = _note
    streams.prepare()
    try:
        with _signals():
            _run(app)
    except OSError as error:  # the error stream's own reader has gone
        if not streams.is_broken_pipe(error):
            raise
        streams.silence()
        sys.exit(streams.EXIT_BROKEN_PIPE)


at_end = contextlib.ExitStack()
"""What a command leaves to be closed when it ends, well or not."""


class Ended(KeyboardInterrupt):
    """A service manager or the end of the terminal ends the program, as Ctrl-C would."""


_ended: list[int] = []
"""The signals that came."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, so that nothing half-written stays; one that is
    ignored, as under nohup, stays ignored."""
    _ended.clear()
    caught: list[signal.Signals] = []

    def end(number: int, _frame: object) -> None:
        _ended.append(number)
        raise Ended

    if threading.current_thread() is threading.main_thread():  # as Python demands
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        caught = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _run(app: Callable[[], Any]) -> None:
    try:
        try:
            with at_end:
                app()
        finally:
            sys.stdout.flush()
    except FarshotError as error:
        _end(as_flags(str(error)), EXIT_REFUSED)
    except (KeyboardInterrupt, Stopped) as stop:
        _end(str(stop) or str(Stopped()), 128 + _ended[0] if _ended else EXIT_INTERRUPTED)
    except streams.ReaderGone:
        streams.silence()
        sys.exit(streams.EXIT_BROKEN_PIPE)
    except OSError as error:
        if streams.is_broken_pipe(error):
            raise
        streams.silence()
        where = f"{error.filename}: " if error.filename else "the output cannot be written: "
        _end(f"{where}{error.strerror or error}; fix that and run the command again.", EXIT_REFUSED)
    except Exception as error:
        if _is_out_of_memory(error):
            _end("the memory is full; set a smaller --micro-batch, or use --precision bf16.", EXIT_REFUSED)
        _end(
            f"an error in farshot itself ({type(error).__name__}: {error}); please report it, with what "
            "FARSHOT_TRACEBACK=1 shows.",
            EXIT_BUG,
        )


def as_flags(sentence: str) -> str:
    """Rewrite the Python arguments of a library message as options: "model=PLACE" becomes "--model PLACE",
    and "include_support=True" becomes "--include-support"."""

    def flag(found: re.Match[str]) -> str:
        name, value = found["name"].replace("_", "-"), found["value"]
        return f"--{name}" if value == "True" else f"--{name} {value}"

    return _ARGUMENT.sub(flag, sentence)


def _end(sentence: str, code: int) -> None:
    if os.environ.get("FARSHOT_TRACEBACK"):
        err.print_exception()
    err.print(f"farshot: {sentence}", markup=False, style=None if code >= EXIT_INTERRUPTED else "red")
    sys.exit(code)


def _note(message: Warning | str, category: type[Warning], *_args: Any, **_more: Any) -> None:
    if not issubclass(category, _SILENT):
        ours = category.__module__.partition(".")[0] == "farshot"
        err.print(f"Note: {as_flags(str(message)) if ours else message}", markup=False)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch, which is not imported here, or Python found no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def percent(interval: Interval) -> str:
    """A share in per cent with its 95 % interval."""
    if not math.isfinite(interval.mean):
        return "-"
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def decimals(interval: Interval) -> str:
    """A number in 0..1 that is no share, with its 95 % interval."""
    if not math.isfinite(interval.mean):
        return "-"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def print_json(value: Any) -> None:
    """Machine-readable output on the standard stream."""
    streams.write_json(value)


def print_csv(rows: Iterable[Iterable[Any]]) -> None:
    """Comma-separated values on the standard stream, in UTF-8; no cell is a formula."""
    streams.write_data(streams.csv_text(rows))


def print_rendered(text: str, form: str) -> None:
    """A table of farshot.bench.render: text as the terminal can show it, other formats in UTF-8."""
    if form == "text":
        sys.stdout.write(text)
    else:
        streams.write_data(text)


def print_method(name: str, facts: Mapping[str, Any]) -> None:
    """A method and the default values of its settings (farshot.methods.catalogue)."""
    out.print(Text.assemble((name, "bold"), f"  {facts['kind']}  {facts['doc']}"))
    lines = [f"{facts['reference']}; {facts['trained_parameters']:,} trained parameters"]
    words = " ".join(f"{key}={value}" for key, value in facts["settings"].items())
    lines += textwrap.wrap(f"settings: {words}", _TEXT_WIDTH, break_on_hyphens=False, break_long_words=False)
    out.print(textwrap.indent("\n".join(lines), "    ") + "\n", markup=False)


def print_names(table: ImageTable, descriptions: Mapping[str, str], to: Console | None = None) -> None:
    """`label: name` of every class, where names come from elsewhere than the labels."""
    to = to or out
    to.print("Classes and what prompts call them:", markup=False)
    for label, name in zip(table.classes, table.names, strict=True):
        to.print(f"  {label}: {descriptions.get(name, name)}", markup=False)


def print_splits(table: ImageTable, split: str | None, what: str) -> None:
    """Which split is used and which are left out; nothing where the table has none."""
    from farshot.data.table import SPLITS

    if table.splits is None or split is None:
        return
    counts = {name: table.splits.count(name) for name in SPLITS}
    others = [f"{name} ({count})" for name, count in counts.items() if count and name != split]
    rest = f"; left out: {', '.join(others)}" if others else ""
    out.print(f"{what} the split {split} ({counts[split]} images){rest}.", markup=False)


def print_evaluation(evaluation: Evaluation, title: str) -> None:
    """Accuracy, one row per class, and the confusion matrix."""
    images = int(evaluation.confusion.sum())
    out.print(
        f"{title}: accuracy {percent(evaluation.accuracy)} % (95 % interval) on {images} images", markup=False
    )
    out.print(
        f"balanced accuracy {percent(evaluation.balanced_accuracy)} %; for comparison: always "
        f"{str(evaluation.majority_class)!r} {100 * evaluation.majority:.1f} %, chance "
        f"{100 * evaluation.chance:.1f} %",
        markup=False,
    )
    out.print(
        f"calibration error {100 * evaluation.calibration_error:.1f} points, log-loss "
        f"{evaluation.nll:.3f} nats\n",
        markup=False,
    )
    table = Table("class", "images", "recall %", "precision %")
    shown = evaluation.lowest(MOST_CLASSES)
    if len(shown) < len(evaluation.classes):
        out.print(
            f"The {len(shown)} of {len(evaluation.classes)} classes with the lowest recall; --out FILE.csv "
            "writes all:",
            markup=False,
        )
    for c in shown:
        count, recall, precision = (
            evaluation.confusion[c].sum(),
            evaluation.recall[c],
            evaluation.precision[c],
        )
        table.add_row(
            _plain(evaluation.classes[c]), str(count), _plain(percent(recall)), _plain(percent(precision))
        )
    out.print(table)
    if len(evaluation.classes) <= _MOST_COLUMNS:
        out.print(_confusion(evaluation))
    else:
        _print_confusions(evaluation)


def _confusion(evaluation: Evaluation) -> Table:
    """The matrix, its columns by number: names would not fit."""
    numbers = [str(i) for i in range(1, len(evaluation.classes) + 1)]
    table = Table("", "true \\ predicted", *(Column(i, justify="right") for i in numbers))
    for i, name, row in zip(numbers, evaluation.classes, evaluation.confusion, strict=True):
        table.add_row(i, _plain(name), *map(str, row))
    return table


def _print_confusions(evaluation: Evaluation) -> None:
    """The pairs most often taken for each other, where the matrix is too wide for any screen."""
    pairs = [
        (int(count), evaluation.classes[i], evaluation.classes[j])
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    table = Table("images", "true", "predicted")
    for count, true, predicted in sorted(pairs, key=lambda pair: -pair[0])[:_MOST_PAIRS]:
        table.add_row(str(count), _plain(true), _plain(predicted))
    out.print("Most frequent confusions; --json gives the whole matrix:", markup=False)
    out.print(table)


def _plain(text: object) -> Text:
    """Class names are text, not rich's markup."""
    return Text(visible(str(text)))
