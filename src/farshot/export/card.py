"""Model cards of exports: what a folder is, and the lines that load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from farshot.classifier.card import classes, front, limits, method, metrics, what

_TRANSFORMERS = """\
```python
import json
import torch
from pathlib import Path
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

folder = "."
about = json.loads(Path(folder, "export.json").read_text(encoding="utf-8"))
model = CLIPModel.from_pretrained(folder).eval()
words = AutoTokenizer.from_pretrained(folder)(
    about["prompts"], padding=True, truncation=True, max_length=77, return_tensors="pt"
)
image = ImageOps.exif_transpose(Image.open("new.jpg")).convert("RGBA")  # upright, over white
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
with torch.no_grad():
    probabilities = model(**words, **pixels).logits_per_image.softmax(-1)[0]
print(about["classes"][probabilities.argmax()])
```

With torchvision, transformers resizes images itself, and probabilities differ slightly from Pillow's. Images
of more than 8 bits a value are stretched by farshot, not by these lines.
"""

_PEFT = """\
```python
from peft import PeftModel
from transformers import CLIPModel

model = PeftModel.from_pretrained(CLIPModel.from_pretrained({base}), "path/of/this/folder")
```
"""


def checkpoint_card(about: Mapping[str, Any]) -> str:
    """Of an ordinary CLIPModel folder."""
    head = front(about, "transformers", "zero-shot-image-classification")
    said = (
        f"# An adapted CLIPModel\n\n{what(about)}\n\nWhat was learned is in the weights, the vocabulary and "
    )
    said += "the prompts of `export.json`;\nwith other prompts it has not been measured.\n"
    return "\n".join(
        [head, said, _TRANSFORMERS, classes(about), method(about), metrics(about, None), limits(about)]
    )


def adapter_card(about: Mapping[str, Any]) -> str:
    """Of a LoRA alone."""
    head = front(about, "peft", "image-classification")
    said = f"# A LoRA adapter\n\n{what(about)}\n"
    if about["left_out"]:
        said += (
            f"\nThis is its LoRA **alone**. The model has more parts ({', '.join(about['left_out'])}), which "
            "PEFT\ndoes not know: with this adapter only, it does not predict what the adapted model does.\n"
        )
    use = _PEFT.format(base=json.dumps(about["base_model"]))
    return "\n".join([head, said, use, classes(about), method(about), limits(about)])
