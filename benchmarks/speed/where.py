"""Where the time of a step goes, in the obvious loop and in ours: a table, and a figure.

python -m benchmarks.speed.where --model ViT-B/16 --out docs/performance.png
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib
from benchmarks.speed.models import CONFIGS, random_clip, random_tasks
from benchmarks.speed.plain_loop import PlainLoop
from torch.profiler import ProfilerActivity, profile

from farshot.methods import create

matplotlib.use("Agg")
from matplotlib import pyplot as plt

GROUPS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "convolution"),
    "attention": ("attention", "softmax"),
    "least squares": ("linalg", "lstsq"),
    "activation and norms": ("sigmoid", "silu", "layer_norm"),
    "copies": ("copy_", "cat", "clone", "contiguous", "fill_", "zero_"),
}
REST = "other elementwise work"
COLOURS = ("#2f6b9a", "#6aa5cf", "#b0413e", "#d99a3d", "#8c8c8c", "#cfcfcf")


class Watch:
    """Profiles the third step of a run: by then everything is warm."""

    def __init__(self) -> None:
        self.profile = profile(activities=[ProfilerActivity.CPU])

    def __call__(self, done: int, steps: int) -> None:
        """After each step."""
        if done == 2:
            self.profile.start()
        if done == 3:
            self.profile.stop()

    def seconds(self) -> dict[str, float]:
        """By group."""
        out: dict[str, float] = defaultdict(float)
        for event in self.profile.key_averages():
            out[_group(event.key)] += event.self_cpu_time_total / 1e6
        return out


def _group(name: str) -> str:
    bare = name.removeprefix("aten::").lstrip("_")
    for group, words in GROUPS.items():
        exact = group == "products"
        if any(bare == word or (word in bare and (not exact or word == "convolution")) for word in words):
            return group
    return REST


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-B/16", choices=list(CONFIGS))
    parser.add_argument("--out", type=Path, default=None, help="a PNG")
    given = parser.parse_args()
    found = {}
    plain = random_clip(given.model)
    task = random_tasks(plain, 1, 1)[0]
    loop, watch = PlainLoop(plain, task), Watch()
    for step in range(1, 4):
        loop.step()
        watch(step, 3)
    found["obvious loop, float32"] = watch.seconds()
    for name, precision in (("farshot, float32", "float32"), ("farshot, bf16", "bf16")):
        encoder, watch = random_clip(given.model, precision=precision), Watch()
        method = create("atha", {"variant": "released", "views": "none", "steps": 4})
        method.adapt(encoder, [task], progress=watch)
        found[name] = watch.seconds()
    groups = [*GROUPS, REST]
    print(f"{given.model}, 1 shot, one task, CPU; milliseconds of a step\n")
    print("| | " + " | ".join([*groups, "all"]) + " |")
    print("|---|" + "---:|" * (len(groups) + 1))
    for name, seconds in found.items():
        cells = [seconds.get(group, 0.0) for group in groups]
        print(f"| {name} | " + " | ".join(f"{1000 * cell:.0f}" for cell in [*cells, sum(cells)]) + " |")
    if given.out:
        _draw(found, groups, given.out)


def _draw(found: dict[str, dict[str, float]], groups: list[str], out: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
    left = [0.0] * len(found)
    for group, colour in zip(groups, COLOURS, strict=True):
        widths = [seconds.get(group, 0.0) for seconds in found.values()]
        axes.barh(list(found), widths, left=left, color=colour, label=group, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds per step of one task")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
