"""`farshot explain` and `farshot report`. A function's docstring is its command's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.cli.bench import ManyValues
from farshot.cli.options import (
    BaseModel,
    Device,
    Download,
    Groups,
    Images,
    Level,
    Saved,
    SkipUnreadable,
    use_downloads,
)
from farshot.errors import SettingError
from farshot.storage.paths import base_name, home

if TYPE_CHECKING:
    from farshot.data.table import ImageTable


def explain(
    folder: Saved,
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for figures, page and numbers.")],
    blocks: Annotated[
        list[int] | None,
        typer.Option(
            "--blocks",
            help="Vision blocks, from 0, to show head and tail tokens for; by default those of strongest "
            "pull and push, and the last.",
        ),
    ] = None,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Show what the model looked at: a figure per image, and one page."""
    from farshot.bench.grid import label
    from farshot.classifier import load
    from farshot.data.readers import unlabelled
    from farshot.explain import explain_table, subject
    from farshot.explain.page import About, check_place, write_explanations

    check_place(out)
    table = unlabelled(images)
    classifier = load(folder, model=model, device=device)
    keep = classifier.adapted_.reading, classifier.encoder_.size
    table = table.with_options(classifier.read_options_).check_readable(skip_unreadable, keep=keep)
    seen = subject(classifier.adapted_, classifier.encoder_, classifier.parameters_.template)
    about = About(
        base_name(str(classifier.parameters_.model)),
        label(classifier.method_),
        tuple(str(name) for name in classifier.classes_),
        classifier.temperature_ != 1,
    )
    with console.progress("explaining") as progress:
        found = explain_table(classifier, table, seen=seen, blocks=blocks or None, progress=progress)
        count = write_explanations(out, found, about, seen.origin)
    console.out.print(f"{count} images: {out / 'index.html'}", markup=False)


def report(
    what: Annotated[Path, typer.Argument(help="A store of results, or the folder of an adapted model.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    baseline: Annotated[
        str | None,
        typer.Option(
            help="For a store: the method that others are compared with; by default prompt-lora, else the "
            "first."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="For a model: labelled images as for `farshot adapt`; it is measured on those that it was "
            "not adapted to."
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(help="For a model: mistakes to show, and images to show token maps of.", min=0)
    ] = 6,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Write one self-contained page on a benchmark or on an adapted model."""
    from farshot.data.readers import read_table
    from farshot.report.page import check_page, write_page
    from farshot.storage.hub import is_on_hub

    if data is None and (level is not None or groups is not None or skip_unreadable or download):
        raise SettingError("--level, --groups, --skip-unreadable and --download are for --data IMAGES.")
    check_page(out)
    what = what if is_on_hub(what) else home(what)
    if is_on_hub(what) or what.is_dir():
        if baseline is not None:
            raise SettingError(f"{what} is an adapted model: --baseline is for a store of results.")
        use_downloads(download)
        table = None if data is None else read_table(data, level=level, groups=groups)
        template = "model.html"
        words = _model_words(what, data, table, groups, images, model, device, skip_unreadable)
    else:
        from farshot.bench.store import Store
        from farshot.report.benchmark import store_report

        if data is not None:
            raise SettingError(f"{what} is a store of results: --data is for an adapted model.")
        with Store(what, read_only=True) as store:
            template, words = "store.html", store_report(store, baseline)
    write_page(out, template, words)
    console.out.print(str(out), markup=False)


def _model_words(
    folder: Path,
    data: str | None,
    table: ImageTable | None,
    groups: str | None,
    images: int,
    model: str | None,
    device: str,
    skip_unreadable: bool,
) -> dict[str, Any]:
    from farshot.classifier import load
    from farshot.report.model import model_report
    from farshot.storage.model_folder import read_folder

    about, tensors = read_folder(folder)
    if data is None or table is None:
        return model_report(about, tensors, images=images)
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    classifier = load(folder, model=model, device=device)
    keep = classifier.adapted_.reading, classifier.encoder_.size
    table = table.with_options(classifier.read_options_).check_readable(skip_unreadable, keep=keep)
    with console.progress_of(classifier, "predicting"):
        return model_report(about, tensors, classifier, table, data=data, groups=groups, images=images)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(cls=ManyValues)(explain)
    app.command()(report)
