"""Model cards: what a model is, from how much data, how good, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from farshot import load

classifier = load("hf:{repo}")
classifier.predict(["new.jpg"])
```
"""

_TRANSFORMERS = """\
```python
import json
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

folder = "."
about = json.load(open(f"{folder}/export.json"))
model = CLIPModel.from_pretrained(folder).eval()
words = AutoTokenizer.from_pretrained(folder)(
    about["prompts"], padding=True, truncation=True, max_length=77, return_tensors="pt"
)
image = Image.open("new.jpg").convert("RGB")
pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
with torch.no_grad():
    probabilities = model(**words, **pixels).logits_per_image.softmax(-1)[0]
print(about["classes"][probabilities.argmax()])
```

With torchvision, transformers resizes images itself, and probabilities differ slightly from Pillow's.
"""

_PEFT = """\
```python
from peft import PeftModel
from transformers import CLIPModel

model = PeftModel.from_pretrained(CLIPModel.from_pretrained({base}), "path/of/this/folder")
```
"""


def model_card(about: Mapping[str, Any], repo: str, evaluation: Mapping[str, Any] | None = None) -> str:
    """Of an adapted model on the hub.

    Args:
        about: its farshot.json.
        evaluation: what `farshot evaluate --json` printed.
    """
    head = _front("farshot", about["base_model"], "image-classification")
    title = f"# {repo.rpartition('/')[2]}\n\n{_what(about)}\n"
    parts = [_LOAD.format(repo=repo), _classes(about), _data(about), _method(about)]
    return "\n".join([head, title, *parts, _metrics(about, evaluation), _limits(about)])


def checkpoint_card(about: Mapping[str, Any]) -> str:
    """Of an ordinary CLIPModel folder."""
    head = _front("transformers", about["base_model"], "zero-shot-image-classification")
    said = (
        f"# An adapted CLIPModel\n\n{_what(about)}\n\nWhat was learned is in the weights, the vocabulary and "
    )
    said += "the prompts of `export.json`;\nwith other prompts it has not been measured.\n"
    return "\n".join(
        [head, said, _TRANSFORMERS, _classes(about), _method(about), _metrics(about, None), _limits(about)]
    )


def adapter_card(about: Mapping[str, Any]) -> str:
    """Of a LoRA alone."""
    head = _front("peft", about["base_model"], "image-classification")
    said = f"# A LoRA adapter\n\n{_what(about)}\n"
    if about["left_out"]:
        said += (
            f"\nThis is its LoRA **alone**. The model has more parts ({', '.join(about['left_out'])}), which "
            "PEFT\ndoes not know: with this adapter only, it does not predict what the adapted model does.\n"
        )
    use = _PEFT.format(base=json.dumps(about["base_model"]))
    return "\n".join([head, said, use, _classes(about), _method(about), _limits(about)])


def _front(library: str, base: str, task: str) -> str:
    lines = [f"library_name: {library}", f"base_model: {json.dumps(base)}", f"pipeline_tag: {task}"]
    return "\n".join(["---", *lines, "tags:", "- clip", "- few-shot-learning", "- farshot", "---", ""])


def _what(about: Mapping[str, Any]) -> str:
    images = f" from {len(about['support_ids'])} labelled images" if "support_ids" in about else ""
    return (
        f"`{about['base_model']}`, adapted with `{about['method']}` to {len(about['classes'])} classes"
        f"{images} by farshot {about['farshot_version']}."
    )


def _classes(about: Mapping[str, Any]) -> str:
    names = {"labels": about["classes"], "in prompts": about["class_names"], "prompt": about["template"]}
    if about["descriptions"]:
        names["descriptions"] = about["descriptions"]
    return "## Classes\n\n" + _block(names)


def _data(about: Mapping[str, Any]) -> str:
    return (
        f"## Data\n\n{len(about['support_ids'])} labelled images. They are not part of this model; the "
        "hashes of their content are,\nso that `farshot evaluate` leaves them out.\n"
    )


def _method(about: Mapping[str, Any]) -> str:
    said = "## Method\n\n" + _block({"method": about["method"], "settings": about["settings"]})
    losses: Sequence[float] = about.get("losses") or ()
    if losses:
        said += f"\n{len(losses)} steps, loss {losses[0]:.3f} before the first, {losses[-1]:.3f} before the "
        said += "last.\n"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return said + f"\nBase model's content: `{about['base_fingerprint']}`. Made with {versions}.\n"


def _metrics(about: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    rows = []
    if about["estimate"]:
        on = "cross-validated on the images it was adapted to"
        if about["temperature"] != 1 and not about["estimate"].get("calibrated", False):
            on += ", before calibration"
        rows.append(_metric(on, about["estimate"]))
    if evaluation:
        data = Path(str(evaluation["data"])).name
        rows.append(_metric(f"images of `{data}` that it was not adapted to", evaluation))
    if not rows:
        return "## Metrics\n\nNot measured. `farshot evaluate` measures it on labelled images.\n"
    head = "| on | images | accuracy % (95 % interval) | calibration error, points |\n|---|---:|---:|---:|\n"
    return "## Metrics\n\n" + head + "\n".join(rows) + "\n"


def _metric(on: str, found: Mapping[str, Any]) -> str:
    value, low, high = (100 * found["accuracy"][name] for name in ("value", "low", "high"))
    error = 100 * found["calibration_error"]
    return f"| {on} | {found['images']} | {value:.1f} [{low:.1f}, {high:.1f}] | {error:.1f} |"


def _limits(about: Mapping[str, Any]) -> str:
    calibrated = (
        "Its probabilities were calibrated on the images it was adapted to."
        if about["temperature"] != 1
        else "Its probabilities are not calibrated: 90 % does not mean right nine times in ten."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in (*_LIMITS, calibrated)) + "\n"


def _block(value: Any) -> str:
    """As code, so that nothing in a name is taken for markup."""
    return "```json\n" + json.dumps(value, indent=1, ensure_ascii=False).replace("```", "'''") + "\n```\n"
