"""`farshot check`: what is wrong with labelled images before anything is learnt from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.options import (
    Bands,
    Data,
    Device,
    Download,
    Groups,
    Level,
    Page,
    Range,
    read_options,
    use_downloads,
)
from farshot.errors import SettingError
from farshot.storage.paths import home

if TYPE_CHECKING:
    from farshot.check import Checked

_MOST_LISTED = 5


def check(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Encoder that judges the labels: hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    out: Annotated[
        Path | None, typer.Option(help="Write a page that shows the pictures: a file such as check.html.")
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image and problem.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
    seed: Annotated[int, typer.Option(help="Of the folds that judge the labels.")] = 0,
    value_range: Range = None,
    bands: Bands = None,
    page: Page = None,
    device: Device = "auto",
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Check labelled images: likely wrong labels, copies, classes that cannot be told apart, poor
    pictures."""
    from farshot.check import check_images
    from farshot.check.report import COLUMNS, rows, write_page
    from farshot.check.report import as_json as plain
    from farshot.classifier import FewShotClassifier
    from farshot.data.readers import read_table
    from farshot.model.device import check_machine
    from farshot.report.page import check_page

    if as_csv and as_json:
        raise SettingError("Choose one of --csv and --json.")
    check_machine(device, "float32")
    if out is not None:
        out = home(out)
        check_page(out)
    options = read_options(value_range, bands, page)
    use_downloads(download)
    table = read_table(data, level=level, groups=groups).with_options(options)
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    classifier = FewShotClassifier(model, "linear-probe", device=device, seed=seed, read_options=options)
    with console.progress("loading the model"):
        classifier.input_reading(table)
    with console.progress("looking at images") as progress:
        found = check_images(table, classifier, progress=progress)
    if out is not None:
        with console.progress("writing the page"):
            write_page(out, found, f"Check of {data}")
    if as_json:
        console.print_json(plain(found))
    elif as_csv:
        console.print_csv([COLUMNS, *rows(found)])
    else:
        _print(found)
    if out is not None:
        console.err.print(f"The page: {out}", markup=False)


def _print(found: Checked) -> None:
    """The problems in text, the first of each kind by name."""
    from farshot.check.report import rows

    say = lambda text: console.out.print(text, markup=False)  # noqa: E731
    say(f"{len(found.table)} images of {len(found.table.classes)} classes.")
    if found.evaluation is None:
        say(f"The labels were not judged: {found.not_judged}")
    else:
        say(
            f"The classifier that judged the labels has a cross-validated accuracy of "
            f"{console.percent(found.evaluation.accuracy)} % (95 % interval)."
        )
    if found.alike:
        say("The pictures are so alike that only exact copies could be looked for.")
    all_rows = list(rows(found))
    for problem, count in Counter(row[0] for row in all_rows).items():
        say(f"\n{problem}: {count}")
        shown = [row for row in all_rows if row[0] == problem][:_MOST_LISTED]
        for _, *words, _score in shown:
            say("  " + ", ".join(word for word in words if word))
        if count > len(shown):
            say(f"  and {count - len(shown)} more: --csv lists all")
    if not all_rows:
        say("\nNo problem found.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(check)
