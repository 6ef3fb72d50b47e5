"""`farshot adapt`: from labelled images to an adapted model in a folder."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.cli.options import (
    Bands,
    Device,
    Download,
    Groups,
    Level,
    Page,
    Range,
    SkipUnreadable,
    Track,
    read_options,
    read_settings,
    use_downloads,
    use_trackers,
)
from farshot.cli.tables import readable
from farshot.errors import DataError, SettingError
from farshot.methods.catalogue import FAST, THOROUGH
from farshot.storage.paths import quoted

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable
    from farshot.evaluation.metrics import Evaluation

_MINUTES_ON_GPU = 30.0
_WORTH_TELLING = 20  # seconds


def adapt(
    data: Annotated[
        list[str],
        typer.Argument(
            help="A folder with one subfolder per class, perhaps within train, val and test; a .zip or "
            ".tar of one; a CSV, Parquet or JSON list; WebDataset shards; a saved dataset; or "
            "hf:NAME[:SPLIT]. Several are taken together."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the adapted model.")],
    base: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="An adapted model: keep its images, method, settings, prompt and encoder, and add these "
            "images. --model says where the encoder lies, if no longer where it was.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    method: Annotated[
        str | None,
        typer.Option(
            help="One of `farshot methods`. By default linear-probe, which takes seconds; with --minutes "
            "or a GPU then atha, and the better one is kept."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time for a fine-tuned method. Without --method: also cross-validate atha, and keep it "
            "if it is better on these images; by default 30 with a GPU, none without. With --method: stop "
            "after a few steps if it would take longer.",
            min=0,
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
    page: Page = None,
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    device: Device = "auto",
    micro_batch: Annotated[
        int | None, typer.Option(help="Most images at once in training: less memory, same result.", min=1)
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
    track: Track = None,
) -> None:
    """Adapt an encoder to labelled images and save the result; with splits, to the images of train."""
    from farshot.classifier import FewShotClassifier

    given_options = dict(locals())
    from farshot.classifier.parameters import model_at_size
    from farshot.cli.continued import Continued, earlier, refuse_kept
    from farshot.data.merge import merged
    from farshot.data.names import read_descriptions
    from farshot.data.readers import read_table
    from farshot.methods import create
    from farshot.model.device import check_device, check_machine
    from farshot.storage.model_folder import check_place
    from farshot.training.forecast import TooLong, spoken

    chosen: Mapping[str, Any] = read_settings(settings or [])
    before: Continued | None = None
    if base is not None:
        defaults = {name: one.default for name, one in signature(adapt).parameters.items()}
        refuse_kept(given_options, defaults)
        before = earlier(base)
        if model == defaults["model"]:
            model = before.model
        method, chosen, template = before.method, before.settings, before.template
        precision, seed = before.precision, before.seed
    given, method = method, method or FAST
    if given is None and minutes is None:
        minutes = _MINUTES_ON_GPU if check_device(device).type != "cpu" else 0
    made = create(method, chosen)  # refuses a wrong name or value before any image is read
    made.check_queries()
    check_machine(device, precision)
    check_place(out)
    use_trackers(track)
    use_downloads(download)
    options = read_options(value_range, bands, page) if before is None else before.options
    several = before is not None or len(data) > 1
    tables = [
        read_table(
            source,
            class_names=None if several else class_names,
            for_prompts=not several,
            level=level,
            groups=groups,
        )
        for source in data
    ]
    if before is not None:
        tables = [before.table, *(replace(table, names=before.names_of(table)) for table in tables)]
    table = merged(tables, [*([str(base)] if before else []), *data], class_names if several else None)
    table = table.with_options(options)
    words = read_descriptions(descriptions, table.names, table.classes) if descriptions else None
    calibrate = made.kind == "features"
    if before is not None:
        words, calibrate = dict(before.descriptions), calibrate or before.calibrate
    classifier = FewShotClassifier(
        model,
        method,
        settings=chosen,
        descriptions=words,
        template=template,
        read_options=options,
        calibrate=calibrate if estimate is None else estimate,
        precision=precision,
        device=device,
        micro_batch=micro_batch,
        seed=seed,
    )
    with console.progress("loading the model"):
        if before is not None:
            sized = model_at_size(model, before.size, device=device, precision=precision)
            classifier.set_params(model=sized)
        reading = classifier.input_reading(table)
    table = readable(table, skip_unreadable, reading)
    train = table.subset(table.train_rows())
    support = train.subset(train.draw(shots, seed)[0]) if shots and len(train) else train
    if class_names or words:
        console.print_names(table, words or {})
    console.print_splits(table, "train", "Drawing from" if shots else "Adapting to")
    limit = 60 * minutes if given is not None and minutes else None
    found = None
    try:
        if classifier.calibrate:
            support.check_one_label()
            try:
                with console.progress_of(classifier, "cross-validating", told=_tell(method), seconds=limit):
                    found = classifier.estimate(support)
            except DataError as error:
                if estimate:
                    raise
                console.err.print(f"Note: no estimate of the accuracy. {error}", markup=False)
                classifier.set_params(calibrate=False)
        told = None if found else _tell(method)
        with console.progress_of(classifier, f"adapting with {method}", told=told, seconds=limit):
            classifier.fit(support)
    except TooLong as error:
        raise SettingError(
            f"{method} would take about {spoken(error.seconds)} on this machine, longer than --minutes "
            f"{minutes:g}; allow more, lower --set steps, or use --method {FAST}, which takes seconds."
        ) from error
    classifier.save(out)
    console.out.print(
        f"Adapted {model} with {method} to {len(support)} images of {len(table.names)} classes: {out}",
        markup=False,
    )
    console.note_on_toy(model)
    if given is None and minutes:
        better = _thorough(classifier, support, 60 * minutes)
        if better is not None:
            classifier, found = better, better.estimate(support)
            classifier.save(out)
            console.out.print(f"The model in {out} is now that of {THOROUGH}.", markup=False)
    elif given is None:
        console.err.print(
            f"Note: {FAST}, which takes seconds. --minutes 30 also tries {THOROUGH}, which fine-tunes the "
            "encoder, and keeps the better one.",
            markup=False,
        )
    left = _left(classifier, table)
    if left and len(data) == 1:
        same = ["--level", str(level)] if level is not None else []
        same += ["--groups", groups] if groups is not None else []
        same += ["--skip-unreadable"] if skip_unreadable else []
        command = " ".join(["farshot evaluate", quoted(out), quoted(data[0]), *map(shlex.quote, same)])
        console.out.print(f"{left} images are left for measuring: {command}", markup=False)
    console.out.print(f"For new images: farshot predict {quoted(out)} IMAGES", markup=False)
    if found:
        console.print_evaluation(found, "Cross-validated on the labelled images")
        _on_sizes(classifier, found, support)


def _left(classifier: FewShotClassifier, table: ImageTable) -> int:
    """How many images `evaluate` would measure on."""
    try:
        return len(classifier.unseen(table)[0])
    except DataError:  # none
        return 0


def _on_sizes(classifier: FewShotClassifier, found: Evaluation, support: ImageTable) -> None:
    """Says how rare classes can count more, where they are much rarer and recognised less often."""
    if classifier.method_.settings().get("class_weight") != "none" or support.labels is None:
        return
    sizes = Counter(support.labels.tolist()).values()
    if max(sizes) >= 3 * min(sizes) and found.accuracy.mean - found.balanced_accuracy.mean >= 0.05:
        console.err.print(
            f"Note: classes have {min(sizes)} to {max(sizes)} labelled images, and rare ones are recognised "
            "less often. --set class_weight=balanced makes every class count as much; it helps the rare ones "
            "and costs the frequent ones.",
            markup=False,
        )


def _tell(method: str) -> Callable[[float], None]:
    """Says how long a method will take, if that is long."""

    def tell(seconds: float) -> None:
        from farshot.training.forecast import peak_memory, spoken

        if seconds >= _WORTH_TELLING:
            memory = peak_memory()
            held = f", {memory / 1e9:.1f} GB of memory so far" if memory else ""
            console.err.print(
                f"{method} will take about {spoken(seconds)} on this machine{held}. Ctrl-C stops it.",
                markup=False,
            )

    return tell


def _thorough(fast: FewShotClassifier, support: ImageTable, seconds: float) -> FewShotClassifier | None:
    """The fine-tuned classifier if it is better than the fast one on these images, by cross-validation on
    the same folds; None if it is not, or if there is no time for it."""
    from farshot.choose import compare_two
    from farshot.training.forecast import TooLong, spoken

    if fast.held_out_ is None:
        console.err.print(
            f"Note: {THOROUGH} is not tried, since the images are too few to compare it with {FAST}; "
            f"--method {THOROUGH} takes it.",
            markup=False,
        )
        return None
    thorough = fast.with_method(THOROUGH)
    folds = len(set(fast.held_out_.fold.tolist()))
    start = time.perf_counter()
    try:
        allowed = seconds * folds / (folds + 1)  # the last part adapts to all images
        with console.progress_of(
            thorough, f"cross-validating {THOROUGH}", told=_tell(THOROUGH), seconds=allowed
        ):
            other = thorough.held_out(support)
        found = compare_two(fast.held_out_, other)
        mean, low, high = (f"{100 * value:+z.1f}" for value in found.difference[:3])
        console.out.print(
            f"{THOROUGH} minus {FAST}, cross-validated on the same images: {mean} points of balanced "
            f"accuracy [{low}, {high}] (95 % interval).",
            markup=False,
        )
        if not found.better:
            console.out.print(f"{FAST} is kept: {THOROUGH} is not better by a standard error.", markup=False)
            return None
        left = max(seconds - (time.perf_counter() - start), 1)
        with console.progress_of(thorough, f"adapting with {THOROUGH}", seconds=left):
            thorough.fit(support)
    except TooLong as error:
        console.out.print(
            f"{FAST} is kept: {THOROUGH} would take about {spoken(error.seconds)} on this machine, and "
            f"{seconds / 60:g} min are allowed (--minutes).",
            markup=False,
        )
        return None
    return thorough


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(adapt)
