"""The command that says which images to label: thin, no logic. Its function's docstring is its help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.options import Bands, Device, Images, Page, Range, SkipUnreadable, read_options
from farshot.errors import DataError, ModelError, SettingError
from farshot.storage.paths import home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farshot.data.table import ImageTable
    from farshot.pick import Choice


def pick(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for the contact sheet and the table to fill in.")],
    shots: Annotated[int | None, typer.Option(help="Images of each class.", min=1)] = None,
    count: Annotated[int | None, typer.Option(help="Images in all, instead of --shots.", min=1)] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes, as for `farshot adapt`: as many images are chosen of what CLIP takes "
            "for each."
        ),
    ] = None,
    ways: Annotated[int | None, typer.Option(help="Number of classes, where they have no names yet.")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Hub name, checkpoint folder, or mini; or the folder of an adapted model, for more images."
        ),
    ] = "openai/clip-vit-base-patch16",
    base: Annotated[
        str | None, typer.Option(help="Where an adapted model's base lies, if no longer where it was.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="random, typical, cover or spread; with an adapted model random, uncertain, "
            "uncertain-spread, gradients, typical or cover. By default what was measured best."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="The prompt, by default 'a photo of a {}.'; {} is where the class name goes."),
    ] = None,
    value_range: Range = None,
    bands: Bands = None,
    page: Page = None,
    seed: Annotated[int, typer.Option(help="Of random draws.")] = 0,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Choose which images to label first, or next with an adapted model."""
    from farshot.data.readers import unlabelled
    from farshot.model.device import check_machine
    from farshot.model.find import check_source
    from farshot.pick.sheet import TABLE, adapt_command, check_place, write_choice
    from farshot.storage.hub import is_on_hub
    from farshot.storage.model_folder import is_saved, read_folder, saved_options

    if (shots is None) == (count is None):
        raise SettingError("Say how many: --shots K for K images of each class, or --count N for N in all.")
    adapted = is_on_hub(model) or is_saved(home(model))
    if adapted and (class_names or ways or template is not None):
        raise SettingError(
            f"{model} knows its classes and its prompt: leave out --class-names, --ways and --template."
        )
    if base is not None and not adapted:
        raise SettingError(f"--base is for an adapted model, and {model} is none: give the base as --model.")
    options = read_options(value_range, bands, page)
    if adapted and (value_range or bands or page):
        raise SettingError(f"{model} knows how its images are read: leave out --range and --bands.")
    check_machine(device, "float32")
    if not adapted:
        check_source(model)
    out = home(out)
    check_place(out)
    by = _check_rule(rule, adapted)
    names = None if adapted else _names(class_names, shots, count, ways)
    gone = ""
    if adapted:
        options = saved_options(model, read_folder(Path(model))[0])
    table = unlabelled(images).with_options(options)
    with console.progress("reading images") as progress:
        table = table.check_readable(skip_unreadable, progress)
    if adapted:
        choice = _next(model, base, table, shots, count, by, seed, device)
        choice, gone = _continued(choice, model, base)
    else:
        ways_or_one = ways if count is None else 1  # N images in all are N of one class
        choice = _first(model, table, shots or count or 0, names, ways_or_one, by, template, seed, device)
    with console.progress("drawing the sheet"):
        write_choice(out, choice, table)
    console.out.print(f"Chose {len(choice)} of {choice.looked_at} images: {out / 'sheet.png'}", markup=False)
    if choice.grouped:
        console.out.print(
            f"{model} was adapted with groups: fill in the column group of {TABLE}, too, or add --groups "
            "with the regular expression that was used before to the command.",
            markup=False,
        )
    command = adapt_command(out / TABLE, choice)
    console.out.print(
        f"Fill in the column label of {out / TABLE}" + (f", then: {command}" if command else "."),
        markup=False,
    )
    if gone:
        console.out.print(f"Note: --from cannot add them to the earlier images. {gone}", markup=False)


def _check_rule(rule: str | None, adapted: bool) -> str | None:
    from farshot.pick.choice import rule_named
    from farshot.pick.rules import FIRST, NEXT

    if rule is not None:
        rule_named(NEXT if adapted else FIRST, rule)
    return rule


def _names(
    class_names: Path | None, shots: int | None, count: int | None, ways: int | None
) -> Mapping[str, str] | tuple[str, ...] | None:
    """The class names, where there are any; refuses numbers that do not fit them."""
    from farshot.data.names import read_names

    if class_names is not None:
        if count is not None:
            raise SettingError("With --class-names the images are balanced: give --shots, not --count.")
        return read_names(class_names)
    if shots is not None and ways is None:
        raise SettingError(
            "How many classes are there? Give --class-names FILE, or their number as --ways N, or the number "
            "of images in all as --count N."
        )
    if count is not None and ways is not None:
        raise SettingError("--count is the number of images in all: leave out --ways, or give --shots.")
    return None


def _first(
    model: str,
    table: ImageTable,
    shots: int,
    names: Mapping[str, str] | tuple[str, ...] | None,
    ways: int | None,
    rule: str | None,
    template: str | None,
    seed: int,
    device: str,
) -> Choice:
    from farshot.model.find import load_encoder
    from farshot.pick import pick_first
    from farshot.task import DEFAULT_TEMPLATE

    with console.progress("loading the model"):
        encoder = load_encoder(model, device=device)
    with console.progress("looking at images") as progress:
        return pick_first(
            encoder,
            table,
            shots,
            class_names=names,
            ways=None if names else ways,
            rule=rule,
            template=template or DEFAULT_TEMPLATE,
            seed=seed,
            progress=progress,
        )


def _next(
    model: str,
    base: str | None,
    table: ImageTable,
    shots: int | None,
    count: int | None,
    rule: str | None,
    seed: int,
    device: str,
) -> Choice:
    from farshot.classifier import load
    from farshot.pick import pick_next

    with console.progress("loading the model"):
        try:
            classifier = load(Path(model), model=base, device=device)
        except ModelError as error:  # --model is taken by the adapted model
            raise ModelError(str(error).replace("with model=", "with --base ")) from error
    wanted = count or (shots or 0) * len(classifier.classes_)
    with console.progress("looking at images") as progress:
        return pick_next(classifier, table, wanted, rule=rule, seed=seed, progress=progress)


def _continued(choice: Choice, model: str, base: str | None) -> tuple[Choice, str]:
    """The choice with the command that adds its images to those of the model, or why there is none."""
    from farshot.cli.continued import earlier

    try:
        earlier(Path(model))
    except DataError as error:
        return choice, str(error)
    name = model.rstrip("/")
    stem, dash, number = name.rpartition("-")
    out = f"{stem}-{int(number) + 1}" if dash and number.isdecimal() else f"{name}-2"
    words = ["--from", model, *(["--model", base] if base else []), "--out", f"{out}/"]
    return replace(choice, adapt=tuple(words)), ""


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(pick)
