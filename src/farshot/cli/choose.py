"""`farshot choose`: which encoder, and on request which method, is best for these images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

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
    SkipUnreadable,
    read_options,
    use_downloads,
)
from farshot.cli.tables import readable
from farshot.errors import SettingError
from farshot.sanitize import visible
from farshot.storage.paths import quoted

if TYPE_CHECKING:
    from farshot.choose import Selection


def choose(
    data: Data,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="An encoder to compare: hub name, checkpoint folder, or mini. Repeatable. By default "
            "those of `farshot encoders` that are in the local cache."
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="A method to compare. Repeatable; by default linear-probe alone."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Adapt the winner and save it to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Of the folds and of every random number.")] = 0,
    value_range: Range = None,
    bands: Bands = None,
    page: Page = None,
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Choose the encoder for these images: all are cross-validated on the same folds.

    The simplest one within one standard error of the best wins. Its estimate is corrected for having been
    chosen, and for adapting to all images, of which each fold has only a part.
    """
    from farshot.choose import METHODS
    from farshot.choose import choose as compare
    from farshot.classifier import FewShotClassifier
    from farshot.data.readers import read_table
    from farshot.methods import create
    from farshot.model.device import check_machine
    from farshot.model.find import shared_encoder
    from farshot.storage.model_folder import check_place

    for method in methods or METHODS:
        create(method)  # refuses a wrong name before any image is read
    check_machine(device, precision)
    if out is not None:
        check_place(out)
    names = models or cached_encoders()
    options = read_options(value_range, bands, page)
    use_downloads(download)
    table = read_table(data, level=level, groups=groups).with_options(options)
    table = readable(table, skip_unreadable, None)
    table = table.subset(table.train_rows())
    table.check_one_label()
    with console.progress("comparing") as progress:
        found = compare(
            table,
            {name: partial(shared_encoder, name, device=device, precision=precision) for name in names},
            methods or METHODS,
            seed=seed,
            progress=progress,
        )
    winner = found.winner
    if as_json:
        console.print_json(_plain(found))
    else:
        _print(found)
    for what, why in found.skipped:
        console.err.print(f"Note: {what} is left out: {why}", markup=False)
    if out is None:
        words = ["farshot", "adapt", quoted(data), "--model", quoted(winner.model), "--method", winner.method]
        words += [f"--set {name}={value}" for name, value in winner.settings.items()]
        console.err.print(f"To adapt it: {' '.join(words)} --out adapted", markup=False)
        return
    classifier = FewShotClassifier(
        winner.model,
        winner.method,
        settings=winner.settings,
        read_options=options,
        precision=precision,
        device=device,
        seed=seed,
    )
    with console.progress_of(classifier, f"adapting {winner.model} with {winner.method}"):
        classifier.fit(table).keep_held_out(winner.held_out)
    classifier.save(out)
    console.err.print(
        f"Adapted {winner.model} with {winner.method} to {len(table)} images: {out}", markup=False
    )


def cached_encoders() -> list[str]:
    """The encoders of the catalogue that are in the local cache of the hub.

    Raises:
        SettingError: there are none.
    """
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from farshot.model.catalogue import ENCODERS

    try:
        cached = {
            repo.repo_id
            for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos
            if repo.size_on_disk > 1 << 20
        }
    except CacheNotFound:
        cached = set()
    found = [entry.model for entry in ENCODERS if entry.model.partition(":")[0] in cached]
    if not found:
        raise SettingError(
            "None of the encoders of `farshot encoders` is in the local cache; name those to compare, such "
            "as --models openai/clip-vit-base-patch16 --models imageomics/bioclip."
        )
    return found


def _print(found: Selection) -> None:
    """One row per candidate, the winner marked, and its corrected estimate."""
    several = len({one.method for one in found.candidates}) > 1
    numbers = ["balanced %", "to the best", "adapt", "image", "size"]
    table = Table(
        "",
        Column("encoder, method" if several else "encoder", overflow="fold"),
        *(Column(head, no_wrap=True, justify="right") for head in numbers),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for number, one in enumerate(found.candidates):
        apart = found.differences[number]
        mean, low, high = (f"{100 * value:+z.1f}" for value in apart[:3])
        table.add_row(
            "*" if number == found.chosen else "",
            Text(visible(f"{one.model}, {one.method}" if several else one.model)),
            Text(console.percent(one.evaluation.balanced_accuracy)),
            Text("best" if apart.half == 0 else f"{mean} [{low}, {high}]"),
            f"{one.seconds:.1f} s",
            f"{1000 * one.seconds_per_image:.0f} ms",
            f"{one.parameters / 1e6:.0f} M",
        )
    console.out.print(table)
    first = found.candidates[0].evaluation
    extrapolated = any(one.gain is not None for one in found.candidates)
    for_all = ", and for adapting to all pictures" if extrapolated else ""
    console.out.print(
        f"* the simplest within one standard error of the best, with {found.winner.method}. Columns: mean "
        "recall and difference to the best with 95 % intervals, time to adapt, time per image, "
        f"parameters.\nCorrected for having been chosen{for_all}, its balanced accuracy is "
        f"{console.percent(found.estimate)} % (95 % interval); always {str(first.majority_class)!r}: "
        f"{100 * first.majority:.1f} % accuracy, chance: {100 * first.chance:.1f} %.",
        markup=False,
    )


def _plain(found: Selection) -> dict[str, Any]:
    """The comparison as JSON can hold it."""
    return {
        "chosen": {
            "model": found.winner.model,
            "method": found.winner.method,
            "settings": dict(found.winner.settings),
        },
        "estimate": {
            "balanced_accuracy": found.estimate.mean,
            "low": found.estimate.low,
            "high": found.estimate.high,
        },
        "candidates": [
            {
                "model": one.model,
                "method": one.method,
                "settings": dict(one.settings),
                "evaluation": one.evaluation.to_dict(),
                "difference": {"value": apart.mean, "low": apart.low, "high": apart.high},
                "seconds_to_adapt": one.seconds,
                "seconds_per_image": one.seconds_per_image,
                "parameters": one.parameters,
            }
            for one, apart in zip(found.candidates, found.differences, strict=True)
        ],
        "left_out": [{"what": what, "why": why} for what, why in found.skipped],
    }


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(choose)
