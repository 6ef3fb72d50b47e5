"""Published accuracies, shown for comparison; farshot's own numbers are never compared with them by a test.

5-way, CLIP ViT-B/16, 15 queries per class, each paper on its own tasks: ISIC, EuroSAT, CropDiseases,
ChestX, and the average as the paper states it.
"""

from __future__ import annotations

from collections.abc import Iterable

from farshot.bench.results import Column

ENCODER = "CLIP ViT-B/16"
POOLS = ("isic", "eurosat", "cropdiseases", "chestx")

PUBLISHED: dict[str, dict[int, tuple[float, float, float, float, float]]] = {
    "CLIP-LoRA, as the ATHA paper reports it": {
        1: (35.23, 81.41, 85.32, 21.73, 55.92),
        5: (51.10, 92.52, 96.21, 24.13, 65.99),
    },
    "StepSPT": {1: (32.97, 70.01, 84.84, 22.84, 52.68)},
    "ATHA (arXiv 2605.29776)": {
        1: (38.86, 82.56, 87.99, 24.00, 58.35),
        5: (56.42, 93.41, 97.62, 26.67, 68.53),
    },
    "TIR (arXiv 2605.25799)": {
        1: (39.38, 82.53, 86.91, 23.98, 58.20),
        5: (56.73, 93.49, 97.42, 26.12, 68.44),
    },
    "VtT (arXiv 2603.05235)": {
        1: (38.20, 85.01, 87.00, 22.70, 58.23),
        5: (56.20, 94.58, 97.21, 26.42, 68.57),
    },
    "Mind the Trap (arXiv 2603.13341)": {1: (38.12, 85.02, 87.20, 22.68, 58.26)},
    "CC-CDFSL (arXiv 2603.17655)": {
        1: (38.13, 86.07, 88.91, 22.21, 58.85),
        5: (54.72, 94.35, 97.08, 25.47, 67.90),
    },
}

NOTES = (
    f"Published: by their authors, with {ENCODER}, on other tasks than these; not measured here, not"
    " comparable task by task.",
    "Averages as published; the four pools of VtT at 5 shots average 68.60, of CC-CDFSL at 1 shot 58.83.",
)


def notes_on(columns: Iterable[Column]) -> list[str]:
    """Notes on published numbers in these columns, and on columns whose prompts have other class names.

    Those of CropDiseases are the names of its folders, which are not known here.
    """
    from farshot.data.bscd import CHESTX, EUROSAT, ISIC  # not needed for tables without published numbers

    own = {"isic": ISIC.values(), "eurosat": EUROSAT.values(), "chestx": CHESTX}
    other = [c.name for c in columns if c.name in own and set(c.class_names) != set(own[c.name])]
    names = f"Other class names than those of the published pool: {', '.join(other)}."
    return [*NOTES, *([names] if other else [])]
