"""`farshot predict`: the class of each image by an adapted model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.cli.options import (
    Address,
    BaseModel,
    Device,
    Executor,
    GpusPerWorker,
    Images,
    Saved,
    SkipUnreadable,
    Workers,
)
from farshot.cli.predictions import CsvFile, Rows, check_rows, columns, printed
from farshot.cli.tables import note_on, print_left_out
from farshot.errors import SettingError

if TYPE_CHECKING:
    from farshot.classifier.answers import Question
    from farshot.classifier.stream import Part
    from farshot.data.table import ImageTable
    from farshot.workers.machines import Machines


def predict(
    folder: Saved,
    images: Images,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image, all probabilities.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per image.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the comma-separated rows to this file as they come. The same command goes on where "
            "an interrupted one stopped, or from the start with a transductive method."
        ),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(
            help="Give no class to images that are unlike all labelled ones: 0.05 also loses about 5 % of "
            "the images that are like them. In CSV and JSON their class is empty.",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Add the classes of each image that hold the true one with this probability: 0.9."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Choose between these classes alone, where the others are known to be out of the question. "
            "Repeatable."
        ),
    ] = None,
    hierarchy: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file with the columns name and parent. Adds an answer to each image: the class, or "
            "where that is not certain what it belongs to, right with the probability of --coverage, or 0.9."
        ),
    ] = None,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: Annotated[
        float | None,
        typer.Option(
            help="With Ray: processors of a worker; by default all of a node, which loads the model once."
        ),
    ] = None,
) -> None:
    """Predict the classes of images.

    Each line has the image, its class, how certain it is (a percentage if the model is calibrated, else a
    score), and p: how often an image like the labelled ones is as unlike them as this one. A model of the app
    says "not sure" below its limit. Lines are printed as they come. Images that cannot be read are listed at
    the end.

    With --workers or --executor ray, several processes or machines share the images (docs/cluster.md).
    """
    from farshot.classifier import load
    from farshot.classifier.answers import Question
    from farshot.classifier.distributed import require_independent
    from farshot.data.readers import unlabelled
    from farshot.data.table import none_readable, unreadable
    from farshot.evaluation.hierarchy import read_hierarchy
    from farshot.workers.machines import Machines

    if sum((as_csv, as_json, out is not None)) > 1:
        raise SettingError("Choose one of --csv, --json and --out.")
    if only and (coverage is not None or hierarchy is not None):
        option = "--coverage" if coverage is not None else "--hierarchy"
        raise SettingError(
            f"{option} was measured with all classes, so it promises nothing for some; leave out --only."
        )
    if out is not None:
        check_rows(out)
    table = whole = unlabelled(images)
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    local = 1 if executor == "local" else None
    machines = Machines(executor, device, workers or local, address, gpus_per_worker, cpus_per_worker)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=machines.driver_device)
    if machines.several:
        require_independent(classifier)
    chain = None if hierarchy is None else read_hierarchy(hierarchy, list(map(str, classifier.classes_)))
    asked = Question(classifier, reject, coverage, only or (), chain)
    more = (asked.limit is not None, asked.has_p_values, reject is not None, coverage is not None)
    header = columns(asked.classes, *more, answer=chain is not None)
    console.note_on_toy(classifier.encoder_.source)
    where: Rows
    if out is None:
        where = printed("json" if as_json else "csv" if as_csv else "text", header)
    else:
        options: dict[str, Any] = {"reject": reject, "coverage": coverage, "classes": asked.classes}
        if chain is not None:
            options["hierarchy"] = chain.chains
        where = CsvFile(out, header, classifier, options)
        table = where.left(table)
    with where, _predicted(machines, asked, folder, table) as parts:
        faults = _write(asked, table, parts, where, skip_unreadable)
        if faults and not skip_unreadable:
            raise unreadable(faults, len(whole))
        if faults and len(faults) == len(whole):
            raise none_readable(faults)
    print_left_out(len(faults))


@contextmanager
def _predicted(
    machines: Machines, asked: Question, folder: Path, table: ImageTable
) -> Iterator[Iterator[Part]]:
    """The parts, predicted as they are asked for, by this process or others."""
    from farshot.classifier.distributed import predict_parts_on, setup_for
    from farshot.classifier.stream import predict_parts

    classifier, known = asked.classifier, asked.has_p_values
    with machines.open(partial(setup_for, classifier, folder, table, p_values=known)) as at_work:
        if at_work is None:
            yield predict_parts(classifier, table, p_values=known)
        else:
            yield predict_parts_on(at_work, classifier, table)


def _write(
    asked: Question, table: ImageTable, parts: Iterator[Part], where: Rows, skip_unreadable: bool
) -> list[str]:
    """Write part by part; returns what is wrong with images that cannot be read."""
    from farshot.data.table import unreadable

    classifier, faults, names = asked.classifier, list[str](), list(map(str, table.images))
    with console.progress_of(classifier, "predicting"):
        for part in parts:
            faults += part.faults.values()
            if classifier.method_.kind == "transductive" and part.faults and not skip_unreadable:
                raise unreadable(faults, len(table))  # without them the others might get other classes
            note = note_on(classifier, len(part.rows)) if len(part.rows) else ""
            where.write(asked.rows(names, part, note))
    return faults


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)
