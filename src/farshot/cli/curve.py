"""`farshot curve`: would more labels help?"""

from __future__ import annotations

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
    SkipUnreadable,
    read_options,
    read_settings,
    use_downloads,
)
from farshot.cli.tables import readable
from farshot.storage.paths import home

if TYPE_CHECKING:
    from farshot.choose.curve import LearningCurve


def curve(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    method: Annotated[str, typer.Option(help="One of `farshot methods`.")] = "linear-probe",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method: name=value. Repeatable.")
    ] = None,
    more: Annotated[int, typer.Option(help="Images per class whose gain is forecast.", min=1)] = 10,
    repeats: Annotated[int, typer.Option(help="Random draws of every size.", min=2)] = 20,
    out: Annotated[Path | None, typer.Option(help="Draw the curve: a .png or .svg file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    value_range: Range = None,
    bands: Bands = None,
    page: Page = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Measure the accuracy for 1, 2, 3, 5, ... labelled images per class, and forecast what more would
    bring."""
    from farshot.choose.curve import learning_curve
    from farshot.data.readers import read_table
    from farshot.methods import create
    from farshot.model.device import check_machine
    from farshot.model.find import load_encoder

    made = create(method, read_settings(settings or []))
    made.check_queries()
    check_machine(device, "float32")
    if out is not None:
        from farshot.explain.saved import check_figure

        out = home(out)
        check_figure(out)
    options = read_options(value_range, bands, page)
    use_downloads(download)
    table = read_table(data, level=level, groups=groups).with_options(options)
    with console.progress("loading the model"):
        encoder = load_encoder(model, device=device)
    reading = encoder.reading(made.support_reading(len(table.classes), 1))
    table = readable(table, skip_unreadable, (reading, encoder.size))
    table = table.subset(table.train_rows())
    table.check_one_label()
    with console.progress("measuring") as progress:
        found = learning_curve(made, encoder, table, more=more, repeats=repeats, seed=seed, progress=progress)
    if out is not None:
        _draw(found, out, f"{method}, {Path(model).name}")
    gain = found.gain
    if as_json:
        console.print_json(
            {
                "points": [
                    {
                        "images_per_class": size,
                        "balanced_accuracy": one.mean,
                        "low": one.low,
                        "high": one.high,
                    }
                    for size, one in zip(found.sizes, found.accuracy, strict=True)
                ],
                "forecast": None
                if gain is None
                else {
                    "from": found.gain_from,
                    "more": found.more,
                    "gain": gain.mean,
                    "low": gain.low,
                    "high": gain.high,
                },
            }
        )
        return
    console.out.print("images per class   balanced accuracy % (95 % interval)", markup=False)
    for size, one in zip(found.sizes, found.accuracy, strict=True):
        console.out.print(f"{size:16d}   {console.percent(one)}", markup=False)
    if gain is None:
        console.out.print("No forecast: at least two numbers of images are needed.", markup=False)
        return
    low, mean, high = (100 * value for value in (gain.low, gain.mean, gain.high))
    console.out.print(
        f"{found.more} more per class than the {found.gain_from} of the smallest class would bring about "
        f"{mean:+z.1f} points [{low:+z.1f}, {high:+z.1f}], if the last rise goes on.",
        markup=False,
    )


def _draw(found: LearningCurve, out: Path, title: str) -> None:
    """The curve as a figure."""
    import matplotlib.figure as figure

    from farshot.explain.saved import save_figure

    drawn = figure.Figure(figsize=(6, 4), layout="constrained")
    axes = drawn.add_subplot()
    middle = [100 * one.mean for one in found.accuracy]
    low, high = (
        [100 * value for value in values]
        for values in zip(*((o.low, o.high) for o in found.accuracy), strict=True)
    )
    axes.fill_between(found.sizes, low, high, alpha=0.2, linewidth=0)
    axes.plot(found.sizes, middle, marker="o")
    axes.set_xscale("log", base=2)
    axes.set_xticks(found.sizes, [str(size) for size in found.sizes])
    axes.minorticks_off()
    axes.set_xlabel("labelled images per class")
    axes.set_ylabel("balanced accuracy, % (95 % interval)")
    axes.set_title(title, fontsize=10)
    save_figure(drawn, out)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(curve)
