"""`farshot export` and `farshot push`. A function's docstring is its command's help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.cli.options import BaseModel, Download, Groups, Level, Saved, SkipUnreadable, use_downloads
from farshot.errors import SettingError
from farshot.storage.paths import quoted

if TYPE_CHECKING:
    from farshot.data.table import ImageTable


class Format(StrEnum):
    """What an export can be."""

    onnx = "onnx"
    web = "web"
    torch = "torch"
    transformers = "transformers"
    peft = "peft"


_WITH_P_VALUES = (Format.onnx, Format.web, Format.torch)


class StudentSize(StrEnum):
    """Networks that can be trained (farshot.export.student_net)."""

    small = "small"
    medium = "medium"


class Bits(StrEnum):
    """How weights can be quantised."""

    int8 = "int8"


def export(
    folder: Saved,
    out: Annotated[Path, typer.Option(help="Folder for the export.")],
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="onnx: one file, pixels in, probabilities out. web: a page that classifies pictures in the "
            "browser. torch: an archive of torch.export. transformers: a CLIPModel folder. peft: the LoRA "
            "alone. With --student always onnx.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Your own images to check the export on, as for `farshot predict`; for --quantize and "
            "--student labelled, as for `farshot adapt`."
        ),
    ] = None,
    quantize: Annotated[
        Bits | None,
        typer.Option(
            help="For onnx and web: weights of 8 bits; what that costs on your --images is printed."
        ),
    ] = None,
    p_values: Annotated[
        bool,
        typer.Option(
            "--p-values",
            help="For onnx, web and torch, of a fine-tuned method: answer with p-values, too, by the frozen "
            "encoder, which about doubles the time of a picture. Methods on frozen features always do.",
        ),
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For web: a folder with the npm package onnxruntime-web; by default it is fetched from the "
            "npm registry, once.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES",
            help="Train a small network to answer as the model does, on these images without labels, and "
            "export it instead; how often both agree is measured on a fifth of them.",
        ),
    ] = None,
    student_size: Annotated[
        StudentSize,
        typer.Option(help="small: ResNet-10, 0.3 million weights. medium: ResNet-18, 2.8 million."),
    ] = StudentSize.small,
    student_pixels: Annotated[
        int | None,
        typer.Option(
            help="Side of the student's input; by default that of the model, and at most 128.",
            min=32,
            max=384,
        ),
    ] = None,
    student_steps: Annotated[int | None, typer.Option(help="Steps of the student's training.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw for --student.")] = 0,
    model: BaseModel = None,
    skip_unreadable: SkipUnreadable = False,
    level: Level = None,
    groups: Groups = None,
    download: Download = False,
) -> None:
    """Export an adapted model: an ONNX file, a web page, a torch.export archive, a transformers checkpoint,
    or a PEFT adapter; or a small network that learned its answers (--student)."""
    use_downloads(download)
    labels = images is not None and (quantize is not None or student is not None)
    if not labels and (level is not None or groups is not None):
        raise SettingError("--level and --groups are for labelled --images, of --quantize and --student.")
    if student is not None:
        if kind not in (None, Format.onnx) or quantize or p_values or runtime is not None:
            raise SettingError(
                "--student writes an ONNX file in float32 without p-values; leave out --quantize, "
                "--p-values, --runtime and other formats."
            )
        how = {"size": student_size.value, "pixels": student_pixels, "steps": student_steps, "seed": seed}
        given = {name: value for name, value in how.items() if value is not None}
        labelled = None if images is None else partial(_table, images, True, level, groups)
        _print_student(out, _export_student(folder, out, student, given, labelled, model, skip_unreadable))
        return
    if (student_size, student_pixels, student_steps) != (StudentSize.small, None, None):
        raise SettingError("--student-size, --student-pixels and --student-steps are for --student IMAGES.")
    if kind is None:
        raise SettingError(f"Name a format: --format {', '.join(Format)}.")
    if quantize and kind not in (Format.onnx, Format.web):
        raise SettingError("--quantize is for --format onnx and --format web.")
    if p_values and kind not in _WITH_P_VALUES:
        raise SettingError(f"--p-values is for --format {', '.join(_WITH_P_VALUES)}.")
    if runtime is not None and kind is not Format.web:
        raise SettingError("--runtime is for --format web.")
    if images is not None and kind is Format.peft:
        raise SettingError("--images is for other formats than peft, which is not compared with the model.")
    if quantize and images is None:
        raise SettingError(
            "--quantize costs accuracy, which is measured on your own images: name a labelled folder with "
            "--images."
        )
    read = None if images is None else partial(_table, images, quantize is not None, level, groups)
    options = {"int8": quantize is not None, "p_values": p_values, "runtime": runtime}
    about = _export(folder, kind, out, read, options, model, skip_unreadable)
    console.out.print(f"{out}: {', '.join(about['files'])}", markup=False)
    if "checked" in about:
        checked = about["checked"]
        compared = "In float32, before quantising, probabilities" if "int8" in about else "Probabilities"
        console.out.print(
            f"{compared} on {checked['images']} images differ from the adapted model's by at most "
            f"{checked['largest_difference']:.1e}.",
            markup=False,
        )
    if "int8" in about:
        _print_int8(about["int8"])
    if kind is Format.web:
        _print_web(out, about)
    if "labelled_similarity" in about:
        console.out.print(
            f"{about['file']} holds features of your labelled images, from which p-values are computed: "
            "whoever gets it has them.",
            markup=False,
        )
    elif kind in _WITH_P_VALUES:
        console.out.print("It does not compute p-values; --p-values adds them.", markup=False)
    if about.get("left_out"):
        console.out.print(
            f"This is the LoRA alone: {', '.join(about['left_out'])} of {about['method']} are not in it, so "
            "it does not predict what the adapted model predicts.",
            markup=False,
        )


def push(
    folder: Saved,
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made where it does not exist.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Name of the base model on the hub, where it was adapted from a folder."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="What `farshot evaluate --json` printed, for the model card.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only you see.")] = False,
    license: Annotated[
        str | None, typer.Option(help="For the model card, as the hub writes it, such as cc-by-4.0.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="For the model card: name on the hub of the data it was adapted to; may be repeated."
        ),
    ] = None,
    replace_card: Annotated[
        bool,
        typer.Option("--replace-card", help="Replace a README.md there that was written or edited by hand."),
    ] = False,
) -> None:
    """Upload an adapted model to the Hugging Face hub, with a model card."""
    from farshot.export import push as push_model
    from farshot.storage.hub import repository

    where = push_model(
        folder,
        repo,
        model=model,
        evaluation=evaluation,
        private=private,
        license=license,
        datasets=dataset or (),
        replace_card=replace_card,
    )
    console.out.print(where, markup=False)
    console.out.print(f"To use it: farshot predict {quoted(f'hf:{repository(repo)}')} IMAGES", markup=False)


def _export(
    folder: Path,
    kind: Format,
    out: Path,
    read: Callable[[], ImageTable] | None,
    options: Mapping[str, Any],
    model: str | None,
    skip_unreadable: bool,
) -> dict[str, Any]:
    from farshot.export import check_transformers
    from farshot.export import export as export_model
    from farshot.export.about import check_place, load_exact
    from farshot.export.onnx_file import needed_packages

    check_place(out)
    if kind in (Format.onnx, Format.web):
        needed_packages()
    if kind is Format.web:
        _fetch_runtime(options["runtime"])
    if kind is Format.transformers:
        check_transformers()
    table = read() if read is not None else None
    classifier = load_exact(folder, model)
    if table is not None:
        keep = classifier.adapted_.reading, classifier.encoder_.size
        table = table.with_options(classifier.read_options_).check_readable(skip_unreadable, keep=keep)
    with console.progress(f"exporting to {kind}"):
        return export_model(classifier, kind.value, out, images=table, **options)


def _export_student(
    folder: Path,
    out: Path,
    images: str,
    how: dict[str, Any],
    read: Callable[[], ImageTable] | None,
    model: str | None,
    skip_unreadable: bool,
) -> dict[str, Any]:
    from farshot.export.about import check_place, load_exact
    from farshot.export.distillation import Distillation
    from farshot.export.onnx_file import needed_packages
    from farshot.export.student import export_student

    settings = Distillation(**how)
    check_place(out)
    needed_packages()
    table, labelled = _table(images, False, None, None), None if read is None else read()
    classifier = load_exact(folder, model)
    options = classifier.read_options_
    table = table.with_options(options).check_readable(skip_unreadable)
    if labelled is not None:
        labelled = labelled.with_options(options).check_readable(skip_unreadable)
    with console.progress("training a student") as bar:
        return export_student(classifier, table, out, settings, labelled=labelled, progress=bar)


def _print_student(out: Path, about: dict[str, Any]) -> None:
    """How near the student is to its teacher, and what it costs."""
    found, speed = about["student"], about["student"]["speed"]
    console.out.print(
        f"{out}: {', '.join(about['files'])}\n"
        f"The student answers as its teacher does for {_share(found['agreement'])} % of "
        f"{found['agreement']['images']} pictures that it was not trained on (95 % interval); by chance "
        f"{100 * found['chance']:.1f} %, always with the most frequent class "
        f"{100 * found['most_frequent']:.1f} %.\n"
        f"It takes {speed['student_ms']:.1f} ms for a picture and the teacher {speed['teacher_ms']:.1f} "
        f"({speed['teacher_in']}, one thread, one run): {speed['ratio']:.1f} times as fast. The file has "
        f"{found['bytes'] / 1e6:.1f} MB, the teacher's {speed['teacher_bytes'] / 1e6:.1f}.",
        markup=False,
    )
    if "labelled" in found:
        on, apart = found["labelled"], found["labelled"]["difference"]
        console.out.print(
            f"Accuracy on {on['images']} labelled pictures that neither was trained on: teacher "
            f"{_share(on['teacher'])} %, student {_share(on['student'])} %; difference "
            f"{100 * apart['mean']:+z.1f} points [{100 * apart['low']:+z.1f}, {100 * apart['high']:+z.1f}].",
            markup=False,
        )
    scores = "" if about["calibrated"] else " Its probabilities are scores, which are not calibrated."
    console.out.print(f"It has no {', '.join(about['left_out'])}.{scores}", markup=False)
    for warning in found["warnings"]:
        console.err.print(f"Warning: {warning}", markup=False)


def _fetch_runtime(runtime: Path | None) -> None:
    """Have the browser's runtime before the work begins."""
    from farshot.export.web_runtime import NAMED, is_kept, runtime_files

    if runtime is None and not is_kept():
        console.err.print(
            f"Fetching {NAMED} from the npm registry, 33 MB, once; it is kept in farshot's cache.",
            markup=False,
        )
    runtime_files(runtime)


def _print_web(out: Path, about: dict[str, Any]) -> None:
    size = sum((out / name).stat().st_size for name in about["files"]) / 1e6
    console.out.print(
        f"To try it: python -m http.server --bind 127.0.0.1 --directory {quoted(out)}, then open "
        f"http://127.0.0.1:8000. Any static host serves it, {size:.0f} MB.",
        markup=False,
    )


def _table(images: str, labelled: bool, level: int | None, groups: str | None) -> ImageTable:
    from farshot.data.readers import read_table, unlabelled

    if labelled:
        table = read_table(images, for_prompts=False, level=level, groups=groups)
    else:
        table = unlabelled([images])
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    return table


def _print_int8(cost: Mapping[str, Any]) -> None:
    """What weights of 8 bits changed (farshot.export.int8.Cost)."""
    before, after, changed = (_share(cost[name]) for name in ("float32", "int8", "changed"))
    apart = {name: 100 * cost["difference"][name] for name in ("mean", "low", "high")}
    size = cost["int8_bytes"] / cost["float32_bytes"]
    console.out.print(
        f"8 bits, on {cost['images']} labelled images that it was not adapted to (95 % intervals):\n"
        f"  accuracy %           {before} in float32, {after} in int8\n"
        f"  difference, points   {apart['mean']:+z.1f} [{apart['low']:+z.1f}, {apart['high']:+z.1f}], image "
        "by image\n"
        f"  another class for    {changed} % of the images\n"
        f"  file                 {100 * size:.0f} % of the size",
        markup=False,
    )


def _share(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(export)
    app.command()(push)
