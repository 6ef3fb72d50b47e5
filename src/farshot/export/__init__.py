"""Export an adapted model for use without farshot: ONNX, a web page, a torch.export archive, a transformers
checkpoint, a PEFT adapter, the hub.

    from farshot import load
    from farshot.export import export, push
    classifier = load("adapted/")
    export(classifier, "onnx", "exported/")
    push(classifier, "OWNER/NAME")

`farshot.export.student` trains a small network that answers as the model does, and exports that.

An export is a folder with an `export.json` that describes it. It is written completely or not at all, and is
compared with the adapted model before it takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farshot.errors import SettingError

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier, Images

FORMATS = ("onnx", "web", "torch", "transformers", "peft")


def export(
    classifier: FewShotClassifier,
    format: str,
    folder: str | Path,
    *,
    images: Images | None = None,
    int8: bool = False,
    p_values: bool = False,
    runtime: str | Path | None = None,
) -> dict[str, Any]:
    """Export an adapted model.

    Args:
        classifier: on the CPU in float32, which `load(folder, device="cpu", precision="float32")` returns of
            every saved model.
        format: "onnx", one file from pixels to probabilities; "web", a page that runs it in a browser;
            "torch", an archive of torch.export; "transformers", a CLIPModel; or "peft", the LoRA alone.
        folder: to write.
        images: to compare the export with the adapted model on, by default generated ones, except for "peft";
            for `int8` a labelled table.
        int8: for "onnx" and "web", store weights in 8 bits, and measure on `images` what that costs.
        p_values: for "onnx", "web" and "torch", of a fine-tuned method: compute p-values, too, with the
            frozen encoder and the features of the labelled images; a method on frozen features always does.
        runtime: for "web", a folder with the npm package onnxruntime-web; by default it is fetched from the
            npm registry, once, and kept in farshot's cache.

    Returns:
        What export.json holds.

    Raises:
        SettingError: a classifier on another device or in another precision, an unknown format, a missing
            package, `int8` without labelled images, or an option for another format.
        ModelError: the method cannot be exported to this format, or `p_values` of a model that does not know
            its labelled images.
        DataError: the folder exists and is not an export, or cannot be written.
    """
    from farshot.data.given import image_table
    from farshot.export.about import check_exact

    check_exact(classifier)
    if format not in FORMATS:
        raise SettingError(f"Unknown export format {format!r}; choose one of {', '.join(FORMATS)}.")
    if int8 and (format not in ("onnx", "web") or images is None):
        raise SettingError(
            "int8=True is for the formats onnx and web, and needs labelled images to measure its cost."
        )
    if p_values and format not in ("onnx", "web", "torch"):
        raise SettingError("p_values=True is for the formats onnx, web and torch.")
    if runtime is not None and format != "web":
        raise SettingError("runtime is for the format web.")
    if images is not None and format == "peft":
        raise SettingError("images is for other formats than peft, which is not compared with the model.")
    table = None if images is None else image_table(images).with_options(classifier.read_options_)
    if format == "onnx":
        from farshot.export.onnx_file import export_onnx

        return export_onnx(classifier, Path(folder), table, int8=int8, p_values=p_values)
    if format == "web":
        from farshot.export.web_page import export_web

        given = None if runtime is None else Path(runtime)
        return export_web(classifier, Path(folder), table, int8=int8, p_values=p_values, runtime=given)
    if format == "torch":
        from farshot.export.torch_file import export_torch

        return export_torch(classifier, Path(folder), table, p_values=p_values)
    if format == "peft":
        from farshot.export.adapter import export_adapter

        return export_adapter(classifier, Path(folder))
    check_transformers()
    from farshot.export.checkpoint import export_checkpoint

    return export_checkpoint(classifier, Path(folder), table)


def check_transformers() -> None:
    """Check that transformers is installed.

    Raises:
        SettingError: it is not; says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise SettingError(
            "The export format transformers needs an extra (transformers is missing): "
            "pip install 'farshot[transformers]'."
        )


def push(
    classifier: FewShotClassifier | str | Path,
    name: str,
    *,
    model: str | None = None,
    evaluation: str | Path | None = None,
    private: bool = False,
    license: str | None = None,
    datasets: Sequence[str] = (),
    replace_card: bool = False,
) -> str:
    """Upload an adapted model to the Hugging Face hub, with a model card made from its run.

    Args:
        classifier: adapted, or the folder of a saved one.
        name: OWNER/NAME of the repository; created if it does not exist.
        model: name of the base model on the hub, if it was adapted from a folder.
        evaluation: file with the output of `farshot evaluate --json`, for the card.
        private: create a private repository.
        license: for the card, as the hub writes it, such as "cc-by-4.0"; by default "unknown".
        datasets: for the card, names on the hub of the data that it was adapted to.
        replace_card: replace a README.md there that farshot did not write, or that was edited.

    Returns:
        The address.

    Raises:
        ModelError: no adapted model, a base model that others cannot find, no login, or no network.
        DataError: `evaluation` is no such file, or of another model, or was measured with support images.
    """
    from farshot.classifier.hub import CardFacts, push_folder

    measured = None if evaluation is None else Path(evaluation)
    facts = CardFacts(license, tuple(datasets), measured, replace_card)
    if isinstance(classifier, str | Path):
        return push_folder(Path(classifier), name, model=model, private=private, facts=facts)
    return classifier.push_to_hub(name, model=model, private=private, facts=facts)
