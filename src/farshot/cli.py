"""The command line: thin, no logic. Each function's docstring is its command's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot import cli_app, cli_bench, cli_encoders, cli_explain, cli_export, cli_pick, console, streams
from farshot.cli_options import (
    Bands,
    BaseModel,
    Device,
    Level,
    Range,
    Saved,
    SkipUnreadable,
    read_options,
)
from farshot.errors import DataError, SettingError
from farshot.paths import quoted

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable

app = typer.Typer(
    cls=console.Commands,
    help="Adapt CLIP to images it has never seen, from a handful of labelled pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    str,
    typer.Argument(
        help="A folder with one subfolder per class, perhaps within train, val and test; a CSV, Parquet or "
        "JSON list; a saved dataset; or hf:NAME[:SPLIT]."
    ),
]


@app.command()
def adapt(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the adapted model.")],
    model: Annotated[
        str, typer.Option(help="Hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    method: Annotated[str, typer.Option(help="One of `farshot methods`.")] = "atha",
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
        bool, typer.Option("--estimate", help="Add a cross-validated accuracy from the labelled images.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature, so that probabilities can be believed.")
    ] = False,
    value_range: Range = None,
    bands: Bands = None,
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    device: Device = "auto",
    micro_batch: Annotated[
        int | None, typer.Option(help="Most images at once in training: less memory, same result.", min=1)
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
) -> None:
    """Adapt a CLIP to labelled images and save the result; of a split tree or column, to those of train."""
    from farshot.classifier import FewShotClassifier
    from farshot.data.names import read_descriptions
    from farshot.data.readers import read_table
    from farshot.methods import create
    from farshot.model.find import check_machine
    from farshot.saved import check_place

    chosen = _read_settings(settings or [])
    create(method, chosen)  # refuses a wrong name or value before any image is read
    check_machine(device, precision)
    check_place(out)
    options = read_options(value_range, bands)
    table = read_table(data, class_names=class_names, level=level).with_options(options)
    words = read_descriptions(descriptions, table.names, table.classes) if descriptions else None
    classifier = FewShotClassifier(
        model,
        method,
        settings=chosen,
        descriptions=words,
        template=template,
        read_options=options,
        calibrate=calibrate,
        precision=precision,
        device=device,
        micro_batch=micro_batch,
        seed=seed,
    )
    with console.progress("loading the model"):
        reading = classifier.input_reading(table)
    table = _readable(table, skip_unreadable, reading)
    train = table.subset(table.train_rows())
    support = train.subset(train.draw(shots, seed)[0]) if shots and len(train) else train
    if class_names or words:
        console.print_names(table, words or {})
    console.print_splits(table, "train", "Drawing from" if shots else "Adapting to")
    found = None
    if estimate:
        with console.progress("cross-validating") as classifier.progress:
            found = classifier.estimate(support)
    with console.progress(f"adapting with {method}") as classifier.progress:
        classifier.fit(support)
    classifier.estimate_ = found.to_dict() if found else None
    classifier.progress = None
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


@app.command()
def predict(
    folder: Saved,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image, all probabilities.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per image.")] = False,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Say what images show."""
    from farshot.classifier import load
    from farshot.data.readers import unlabelled

    if as_csv and as_json:
        raise SettingError("Choose one of --csv and --json.")
    table = unlabelled(images)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    table = _readable(table, skip_unreadable, classifier)
    with console.progress("predicting") as classifier.progress:
        probabilities = classifier.predict_proba(table)
    note = _note_on(classifier, len(table))
    classes = [str(c) for c in classifier.classes_]
    rows = [
        (str(path), classes[int(p.argmax())], p) for path, p in zip(table.images, probabilities, strict=True)
    ]
    if as_json:
        console.print_json(
            [
                {
                    "image": path,
                    "class": name,
                    "probabilities": dict(zip(classes, map(float, p), strict=True)),
                    **({"note": note} if note else {}),
                }
                for path, name, p in rows
            ]
        )
    elif as_csv:
        values = ([path, name, *(f"{value:.6f}" for value in p)] for path, name, p in rows)
        console.print_csv([["image", "class", *classes], *values])
    else:  # rich would make spaces of tabs
        streams.write_data("".join(f"{path}\t{name}\t{100 * p.max():.1f} %\n" for path, name, p in rows))


@app.command()
def evaluate(
    folder: Saved,
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    include_support: Annotated[
        bool, typer.Option("--include-support", help="Count the images it was adapted to as well.")
    ] = False,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
) -> None:
    """Measure an adapted model on labelled images; those it was adapted to are left out.

    Of a split tree or column, those of test are measured. Images of a group it was adapted to are left out.
    """
    from farshot.classifier import load
    from farshot.data.readers import read_table

    table = read_table(data, for_prompts=False, level=level)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    table = _readable(table, skip_unreadable, classifier)
    with console.progress("predicting") as classifier.progress:
        result, left_out = classifier.evaluate(table, include_support=include_support)
    note = _note_on(classifier, int(result.confusion.sum()))
    if as_json:
        console.print_json(
            {
                "adapted": str(folder),
                "data": data,
                "split": table.test_split,
                "left_out_support": left_out,
                **({"note": note} if note else {}),
                **result.to_dict(),
            }
        )
        return
    console.print_splits(table, table.test_split, "Measuring on")
    if left_out:
        groups = ", or whose group it was adapted to," if table.groups is not None else ""
        console.out.print(f"{left_out} images that it was adapted to{groups} are left out.", markup=False)
    console.print_evaluation(result, f"{folder} on {data}")


@app.command()
def methods(
    pattern: Annotated[str, typer.Argument(help="A name or a pattern such as *lora*.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the methods, with what they train and their settings."""
    from farshot.methods.catalogue import REFERENCE, catalogue

    found = catalogue(pattern)
    if not found:
        raise SettingError(f"No method matches {pattern!r}; `farshot methods` lists all.")
    if as_json:
        console.print_json(found)
        return
    for name, facts in found.items():
        console.print_method(name, facts)
    console.out.print(
        f"Trained parameters are those for {REFERENCE}. Another value of a setting: --set name=value, once "
        "for each.",
        markup=False,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for images and the adapted model.")] = Path("demo"),
    tasks: Annotated[int, typer.Option(help="Tasks per method.", min=2)] = 40,
) -> None:
    """Do on the bundled mini world what you would do with your own images."""
    from farshot.demo import run_demo

    run_demo(out, tasks)


cli_bench.register(app)
cli_encoders.register(app)
cli_explain.register(app)
cli_export.register(app)
cli_pick.register(app)
cli_app.register(app)


def _note_on(classifier: FewShotClassifier, images: int) -> str:
    """Prints and returns what to know of a transductive method's predictions; empty for other methods."""
    if classifier.method_.kind != "transductive":
        return ""
    note = (
        f"{classifier.method_.name} is transductive: the {images} images were classified together, and with "
        "others an image may get another label."
    )
    console.err.print(f"Note: {note}", markup=False)
    return note


def _readable(
    table: ImageTable, skip_unreadable: bool, by: FewShotClassifier | tuple[str, int]
) -> ImageTable:
    """The images that can be read, decoded as a model, or a reading and size, will ask for them."""
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    if not isinstance(by, tuple):
        table = table.with_options(by.read_options_)
        by = by.adapted_.reading, by.encoder_.size
    with console.progress("reading images") as progress:
        readable = table.check_readable(skip_unreadable, progress, keep=by)
    if left := len(table) - len(readable):
        console.err.print(
            f"{left} unreadable {'image is' if left == 1 else 'images are'} left out.", markup=False
        )
    return readable


def _read_settings(pairs: list[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise SettingError(f"--set takes name=value, not {pair!r}; for example --set steps=50.")
        if name in settings:
            raise DataError(f"--set {name} is given twice; give it once.")
        settings[name] = value
    return settings


def main() -> None:
    """Entry point of the `farshot` command."""
    console.run(app)
