"""The commands `farshot data`. Each function's docstring is its command's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.options import Download, Level, use_downloads
from farshot.errors import SettingError
from farshot.storage.paths import default_cache, home

if TYPE_CHECKING:
    from farshot.data.listing import Finding

data_app = typer.Typer(help="Pools of images that the benchmark draws from.", no_args_is_help=True)

Root = Annotated[Path | None, typer.Option("--data-root", help="Folder with a subfolder per published pool.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for decoded images; or set FARSHOT_CACHE.")]


@data_app.command("list")
def list_pools(data_root: Root = None) -> None:
    """List the pools, and where they were found."""
    from farshot.bench.render import Block, render
    from farshot.data.pools import find_pool, generated_pools
    from farshot.data.published import PUBLISHED
    from farshot.errors import DataError

    rows = []
    for name, about in PUBLISHED.items():
        try:
            place = str(find_pool(name, root=data_root)[1])
        except DataError:
            place = "not found"
        rows.append([name, about.title, str(about.classes), str(about.images), about.source, place])
    for name, generated in generated_pools().items():
        counts = [str(generated.classes), str(generated.images)]
        rows.append([name, generated.title, *counts, "generated, no files needed", "-"])
    header = ["name", "pool", "classes", "images", "source", "place"]
    notes = ["Any folder with a subfolder per class, CSV, Parquet or JSON list is a pool too: NAME=PATH."]
    console.out.print(render([Block("Pools", header, [("", rows)], notes)], "text"), markup=False)


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A published pool, or any name for your own images.")],
    path: Annotated[Path, typer.Argument(help="Its folder.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode every image.")] = False,
    level: Level = None,
    download: Download = False,
) -> None:
    """Check counts, classes and readability; report what is wrong and how to fix it."""
    from farshot.data.check import check_pool

    use_downloads(download)
    with console.progress(f"checking {name}") as progress:
        pool, findings = check_pool(name.lower(), home(path), quick=quick, level=level, progress=progress)
    for finding in findings:
        console.out.print(finding_words(finding), markup=False)
    if pool is None:
        console.out.print(f"{name} in {path} is refused until this is fixed.", markup=False)
        raise typer.Exit(console.EXIT_REFUSED)
    verdict = "differs from the published pool" if any(f.differs for f in findings) else "is in order"
    if any(f.contradicts for f in findings):
        verdict = "can be used, but holds contradictions"
    elif verdict == "is in order" and any(f.copies for f in findings):
        verdict = "can be used, but holds copies"
    classes = len(pool.table.classes)
    console.out.print(f"{name} {verdict}: {len(pool.table)} images of {classes} classes.", markup=False)


def finding_words(finding: Finding) -> str:
    """A remark on a pool with its weight."""
    word = "WRONG" if finding.fatal else "DIFFERS" if finding.differs else "note"
    word = "COPIES" if finding.copies else "CONTRADICTION" if finding.contradicts else word
    return f"{word}: {finding.what.rstrip('.')}. {finding.fix}".rstrip()


@data_app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A pool from `farshot data list`, or NAME=PATH.")],
    path: Annotated[Path | None, typer.Argument(help="Its folder, if not below --data-root.")] = None,
    size: Annotated[int, typer.Option(help="Side of the model's input in pixels.", min=1)] = 224,
    readings: Annotated[
        list[str] | None,
        typer.Option("--reading", help="squash, centre, reduced, or model, as --model reads. Repeatable."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The encoder whose own reading and size are prepared.")
    ] = None,
    data_root: Root = None,
    cache: Cache = None,
    level: Level = None,
    download: Download = False,
) -> None:
    """Decode a pool once, so that no benchmark does it again; goes on where it was stopped."""
    from farshot.data.cache import cached
    from farshot.data.cache import prepare as prepare_pool
    from farshot.data.pools import open_pool

    paths = {name.lower(): path} if path else {}
    chosen = list(readings or (["model"] if model else ["squash"]))
    if model is not None:
        from farshot.model.find import load_encoder

        encoder = load_encoder(model)
        chosen, size = [encoder.reading(reading) for reading in chosen], encoder.size
    elif "model" in chosen:
        raise SettingError("--reading model is how an encoder's own program reads; add --model NAME.")
    use_downloads(download)
    pool = open_pool(f"{name.lower()}={path}" if path else name, root=data_root, paths=paths, level=level)
    with console.progress(f"looking over {pool.name}") as progress:
        pool = cached(pool, cache, progress)
    with console.progress(f"decoding {pool.name}") as progress:
        done, size_on_disk = prepare_pool(pool, chosen, size, progress)
    console.out.print(
        f"{pool.name}: {done} decoded now, {size_on_disk / 2**20:.0f} MB in {cache or default_cache()}",
        markup=False,
    )
