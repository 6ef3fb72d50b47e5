"""`farshot adapt`: from labelled images to an adapted model in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console
from farshot.cli.options import (
    Bands,
    Data,
    Device,
    Groups,
    Level,
    Range,
    SkipUnreadable,
    read_options,
    read_settings,
)
from farshot.cli.tables import readable
from farshot.errors import DataError
from farshot.storage.paths import quoted

_WHY = {
    "linear-probe": "no --method given: linear-probe, which takes seconds without a GPU. --method atha "
    "fine-tunes the encoder, which takes hours with a large one.",
    "atha": "no --method given: atha, since there is a GPU. --method linear-probe takes seconds.",
}
"""Why a method is the default."""


def default_method(device: str) -> str:
    """The method of `farshot adapt` where none is given: atha where a GPU computes, else linear-probe."""
    from farshot.model.find import check_device

    return "linear-probe" if check_device(device).type == "cpu" else "atha"


def adapt(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the adapted model.")],
    model: Annotated[
        str, typer.Option(help="Hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    method: Annotated[
        str | None,
        typer.Option(
            help="One of `farshot methods`; by default atha with a GPU, and without one linear-probe, which "
            "takes seconds."
        ),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Images per class to adapt to; the rest is kept for `evaluate`.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of every random number.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method: name=value. Repeatable.")
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            help="Names for prompts: one per line in the classes' order, or `label: name`, or JSON."
        ),
    ] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="JSON: class name -> words that take its place in the prompt.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="The prompt; {} is where the class name goes.")
    ] = "a photo of a {}.",
    estimate: Annotated[
        bool | None,
        typer.Option(
            "--estimate/--no-estimate",
            "--calibrate/--no-calibrate",
            help="Cross-validate the labelled images: an estimate of the accuracy, probabilities that say "
            "how often they are right, and prediction sets. By default done where it takes seconds: for "
            "methods on frozen features.",
        ),
    ] = None,
    value_range: Range = None,
    bands: Bands = None,
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    device: Device = "auto",
    micro_batch: Annotated[
        int | None, typer.Option(help="Most images at once in training: less memory, same result.", min=1)
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
) -> None:
    """Adapt an encoder to labelled images and save the result; with splits, to the images of train."""
    from farshot.classifier import FewShotClassifier
    from farshot.data.names import read_descriptions
    from farshot.data.readers import read_table
    from farshot.methods import create
    from farshot.model.find import check_machine
    from farshot.storage.model_folder import check_place

    chosen = read_settings(settings or [])
    why = None
    if method is None:
        method = default_method(device)
        why = _WHY[method]
    kind = create(method, chosen).kind  # refuses a wrong name or value before any image is read
    check_machine(device, precision)
    check_place(out)
    options = read_options(value_range, bands)
    table = read_table(data, class_names=class_names, level=level, groups=groups).with_options(options)
    words = read_descriptions(descriptions, table.names, table.classes) if descriptions else None
    classifier = FewShotClassifier(
        model,
        method,
        settings=chosen,
        descriptions=words,
        template=template,
        read_options=options,
        calibrate=kind == "features" if estimate is None else estimate,
        precision=precision,
        device=device,
        micro_batch=micro_batch,
        seed=seed,
    )
    with console.progress("loading the model"):
        reading = classifier.input_reading(table)
    table = readable(table, skip_unreadable, reading)
    train = table.subset(table.train_rows())
    support = train.subset(train.draw(shots, seed)[0]) if shots and len(train) else train
    if class_names or words:
        console.print_names(table, words or {})
    console.print_splits(table, "train", "Drawing from" if shots else "Adapting to")
    if why:
        console.err.print(f"Note: {why}", markup=False)
    found = None
    if classifier.calibrate:
        support.check_one_label()
        try:
            with console.progress_of(classifier, "cross-validating"):
                found = classifier.estimate(support)
        except DataError as error:
            if estimate:
                raise
            console.err.print(f"Note: no estimate of the accuracy. {error}", markup=False)
            classifier.set_params(calibrate=False)
    with console.progress_of(classifier, f"adapting with {method}"):
        classifier.fit(support)
    classifier.save(out)
    console.out.print(
        f"Adapted {model} with {method} to {len(support)} images of {len(table.names)} classes: {out}",
        markup=False,
    )
    left = int((~table.among(set(classifier.support_ids_))).sum())
    if table.splits is not None:
        left = len(table.test_rows())
    if left:
        console.out.print(
            f"{left} images are left for measuring: farshot evaluate {quoted(out)} {quoted(data)}",
            markup=False,
        )
    console.out.print(f"For new images: farshot predict {quoted(out)} IMAGES", markup=False)
    if found:
        console.print_evaluation(found, "Cross-validated on the labelled images")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(adapt)
