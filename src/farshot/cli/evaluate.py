"""`farshot evaluate`: how good an adapted model is on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console
from farshot.cli.options import (
    BaseModel,
    Data,
    Device,
    Download,
    Groups,
    Level,
    Saved,
    SkipUnreadable,
    use_downloads,
)
from farshot.cli.tables import check_csv, note_on, print_left_out, readable, write_csv
from farshot.errors import SettingError


def evaluate(
    folder: Saved,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    include_support: Annotated[
        bool, typer.Option("--include-support", help="Count the images it was adapted to as well.")
    ] = False,
    other: Annotated[
        Path | None,
        typer.Option(help="Images of something else: measure how well they are recognised as such."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write recall and precision of every class to this CSV file."),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(
            help="With --other: the level at which `predict --reject` rejects images; by default 0.05."
        ),
    ] = None,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Evaluate an adapted model on labelled images, without those it was adapted to.

    Of a split tree or column, those of test are measured. Images of a group it was adapted to are left out.
    """
    from farshot.classifier import load
    from farshot.classifier.stream import measure
    from farshot.data.independence import units_of_copies
    from farshot.data.readers import read_table, unlabelled
    from farshot.evaluation.familiarity import measure as compare
    from farshot.storage.model_folder import model_id, read_folder

    if reject is not None and other is None:
        raise SettingError("--reject is for --other IMAGES.")
    level_used = 0.05 if reject is None else reject
    if out is not None:
        check_csv(out)
    use_downloads(download)
    table = read_table(data, for_prompts=False, level=level, groups=groups)
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    if classifier.support_groups_ and table.groups is None and not include_support:
        console.err.print(
            "Note: this model was adapted with groups, such as of one patient, and these images have none, "
            "so others of those groups count as new; --groups says which belong together.",
            markup=False,
        )
    if other is not None:
        classifier.require_familiarity().check_level(level_used)
    with console.progress_of(classifier, "predicting"):
        found = measure(
            classifier,
            table,
            include_support=include_support,
            skip_unreadable=skip_unreadable,
            p_values=other is not None,
        )
    print_left_out(found.unreadable)
    result, strangers = found.evaluation, None
    if found.p_values is not None:
        assert other is not None
        strange = readable(unlabelled([other]), skip_unreadable, classifier)
        with console.progress_of(classifier, "comparing with the labelled images"):
            unlike = classifier.familiarity(strange)
        copies = units_of_copies(strange.contents())
        strangers = compare(found.p_values, unlike, level_used, found.unit, copies)
    if out is not None:
        write_csv(out, result.rows())
    note = note_on(classifier, int(result.confusion.sum()))
    if as_json:
        console.print_json(
            {
                "adapted": str(folder),
                "model": model_id(read_folder(folder)[0]),
                "data": data,
                "split": table.test_split,
                "include_support": include_support,
                "left_out_support": result.left_out,
                **({"note": note} if note else {}),
                **result.to_dict(),
                **({"other": strangers.to_dict()} if strangers else {}),
            }
        )
        return
    console.print_splits(table, table.test_split, "Measuring on")
    if result.left_out:
        groups = ", or whose group it was adapted to," if table.groups is not None else ""
        console.out.print(
            f"{result.left_out} images that it was adapted to{groups} are left out.",
            markup=False,
        )
    console.print_evaluation(result, f"{folder} on {data}")
    if strangers:
        console.out.print(
            f"Images of {other}: rejected at the level {level_used:g}: {console.percent(strangers.flagged)} "
            f"% of these {strangers.flagged.n}, and {console.percent(strangers.lost)} % of your own "
            f"{strangers.lost.n}; area under the ROC curve {console.decimals(strangers.auroc)}.",
            markup=False,
        )


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(evaluate)
