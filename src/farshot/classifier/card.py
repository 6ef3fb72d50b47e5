"""The model card of an adapted model: what it is, from how much data, how good, and what it cannot do.

Its first lines are metadata that the hub reads (huggingface_hub's ModelCardData): licence, base model, task,
data sets, and measured numbers as a model index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farshot.model.catalogue import toy_note

_LIMITS = (
    "It knows these classes and no others: every image gets one of them, even one that shows something else.",
    "It was adapted to few images. On images of another camera, place or season it may be much worse; "
    "measure it on your own.",
    "What the base model learned from the web, its biases among it, is still in it. No decision about people "
    "or their health should rest on it alone.",
    "The licences of the base model and of the images apply.",
)

_LOAD = """\
```python
from farshot import FewShotClassifier

classifier = FewShotClassifier.from_pretrained("{repo}")
classifier.predict(["new.jpg"])
```
"""

_MARK = "<!-- made by farshot, sha256 "


def model_card(
    about: Mapping[str, Any],
    repo: str,
    evaluation: Mapping[str, Any] | None = None,
    *,
    license: str | None = None,
    datasets: Sequence[str] = (),
    features: Sequence[str] = (),
) -> str:
    """Of an adapted model on the hub.

    Args:
        about: its farshot.json.
        evaluation: what `farshot evaluate --json` printed.
        license, datasets: as of `front`.
        features: tensors in parts.safetensors that hold features of the labelled images.
    """
    name = repo.rpartition("/")[2]
    task = "zero-shot-image-classification" if about["method"] == "zero-shot" else "image-classification"
    head = front(about, "farshot", task, name=name, license=license, datasets=datasets, evaluation=evaluation)
    parts = [head, f"# {name}\n\n{what(about)}\n", _LOAD.format(repo=repo), classes(about)]
    parts += [_data(about, features), method(about), metrics(about, evaluation), limits(about)]
    text = "\n".join(parts)
    return f"{text}\n{_MARK}{_digest(text)} -->\n"


def front(
    about: Mapping[str, Any],
    library: str,
    task: str,
    *,
    name: str | None = None,
    license: str | None = None,
    datasets: Sequence[str] = (),
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """The metadata of a card, in YAML between its marks.

    Args:
        about: farshot.json, or export.json.
        library, task: `library_name` and `pipeline_tag`.
        name: of the model; needed for measured numbers.
        license: as the hub writes it; "unknown" where None.
        datasets: names on the hub.
        evaluation: what `farshot evaluate --json` printed.
    """
    from huggingface_hub import ModelCardData

    base = about["base_model"].removeprefix("hf-hub:")
    known = base if base.count("/") == 1 and not base.startswith((".", "/", "~")) else None
    results = _results(about, evaluation) if name else []
    data = ModelCardData(
        base_model=known,
        base_model_relation="adapter" if known else None,
        library_name=library,
        license=license or "unknown",
        pipeline_tag=task,
        tags=["clip", "few-shot-learning", "farshot", about["method"]],
        datasets=list(datasets) or None,
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---\n"


def is_unchanged(card: bytes) -> bool:
    """Whether a card is as farshot wrote it, so that a new one may replace it."""
    text, mark, digest = card.decode("utf-8", errors="replace").rpartition(_MARK)
    return bool(mark) and digest.split(" ")[0] == _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256("\n".join(text.splitlines()).strip().encode()).hexdigest()


def _measured(about: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> list[tuple[str, str, Any]]:
    """(data, protocol, numbers) of each measurement."""
    found = []
    if about["estimate"]:
        protocol = "cross-validated on the images it was adapted to"
        if about["temperature"] != 1 and not about["estimate"].get("calibrated", False):
            protocol += ", before calibration"
        found.append(("labelled images", protocol, about["estimate"]))
    if evaluation:
        data = Path(str(evaluation["data"])).name
        found.append((data, f"images of `{data}` that it was not adapted to", evaluation))
    return found


def _results(about: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> list[Any]:
    """Measured numbers for the model index, with interval and protocol."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=data,
            metric_type=kind,
            metric_name=f"{kind.replace('_', ' ')}, {protocol}",
            metric_value=round(numbers[kind]["value"], 4),
            metric_args={
                "interval": [round(numbers[kind][end], 4) for end in ("low", "high")],
                "level": 0.95,
                "images": numbers["images"],
                "protocol": protocol,
            },
        )
        for data, protocol, numbers in _measured(about, evaluation)
        for kind in ("accuracy", "balanced_accuracy")
        if kind in numbers
    ]


def what(about: Mapping[str, Any]) -> str:
    """In a sentence: base, method, classes, images."""
    images = f" from {len(about['support_ids'])} labelled images" if "support_ids" in about else ""
    return (
        f"`{about['base_model']}`, adapted with `{about['method']}` to {len(about['classes'])} classes"
        f"{images} by farshot {about['farshot_version']}. {toy_note(about['base_model'])}"
    ).rstrip()


def classes(about: Mapping[str, Any]) -> str:
    """The section of the classes."""
    names = {"labels": about["classes"], "in prompts": about["class_names"], "prompt": about["template"]}
    if about["descriptions"]:
        names["descriptions"] = about["descriptions"]
    return "## Classes\n\n" + _block(names)


def _data(about: Mapping[str, Any], features: Sequence[str]) -> str:
    said = (
        f"## Data\n\n{len(about['support_ids'])} labelled images. They are not part of this model; the "
        "hashes of their content are,\nso that `farshot evaluate` leaves them out, but neither near copies "
        "of them nor other images of\ntheir groups, which count as new ones.\n"
    )
    if features:
        said += (
            f"\n`parts.safetensors` holds **features of the labelled images** ({', '.join(features)}): "
            "numbers that\ntell something of what they show, and whether a given picture is one of them.\n"
        )
    return said + (
        "\nWhat p-values and prediction sets need is not uploaded: `--reject` and `--coverage` do not work "
        "with\nthis copy.\n"
    )


def method(about: Mapping[str, Any]) -> str:
    """The section of method, settings and versions."""
    said = "## Method\n\n" + _block({"method": about["method"], "settings": about["settings"]})
    losses: Sequence[float] = about.get("losses") or ()
    if losses:
        said += f"\n{len(losses)} steps, loss {losses[0]:.3f} before the first, {losses[-1]:.3f} before the "
        said += "last.\n"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return said + f"\nBase model's content: `{about['base_fingerprint']}`. Made with {versions}.\n"


def metrics(about: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    """The section of measured numbers."""
    rows = [_metric(protocol, numbers) for _, protocol, numbers in _measured(about, evaluation)]
    if not rows:
        return "## Metrics\n\nNot measured. `farshot evaluate` measures it on labelled images.\n"
    head = "| on | images | accuracy % (95 % interval) | calibration error, points |\n|---|---:|---:|---:|\n"
    return "## Metrics\n\n" + head + "\n".join(rows) + "\n"


def _metric(on: str, found: Mapping[str, Any]) -> str:
    value, low, high = (100 * found["accuracy"][name] for name in ("value", "low", "high"))
    error = 100 * found["calibration_error"]
    return f"| {on} | {found['images']} | {value:.1f} [{low:.1f}, {high:.1f}] | {error:.1f} |"


def limits(about: Mapping[str, Any]) -> str:
    """The section of what it cannot do."""
    calibrated = (
        "Its probabilities were calibrated on the images it was adapted to."
        if about["temperature"] != 1
        else "Its probabilities are not calibrated: 90 % does not mean right nine times in ten."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in (*_LIMITS, calibrated)) + "\n"


def _block(value: Any) -> str:
    """As code, so that nothing in a name is taken for markup."""
    return "```json\n" + json.dumps(value, indent=1, ensure_ascii=False).replace("```", "'''") + "\n```\n"
