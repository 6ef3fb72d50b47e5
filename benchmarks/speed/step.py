"""Seconds per training step of atha, and the share of what the machine could do at best.

    python -m benchmarks.speed.step --models ViT-B/16 --shots 1 5 --tasks 1 4 --precision bf16

The bound is the step's own matrix products, noted as they run and timed alone in the same run: same shapes,
same precision, attention included, nothing between them.
"""

from __future__ import annotations

import time

from benchmarks.speed.models import random_clip, random_tasks
from benchmarks.speed.options import add_cases, add_recipe, described
from benchmarks.speed.products import Notes, Product, time_alone

from farshot.methods import Method, create
from farshot.model.encoder import Encoder
from farshot.task import Task

_WARM = 1  # steps that are not counted


class Stopwatch:
    """Times each step of a run, and notes the products of its first one."""

    def __init__(self) -> None:
        self.notes, self.seconds = Notes(), list[float]()
        self._last = 0.0

    def __call__(self, done: int, steps: int) -> None:
        """After each step."""
        now = time.perf_counter()
        if done > _WARM + 1:
            self.seconds.append(now - self._last)
        if done == _WARM:
            self.notes.__enter__()
        if done == _WARM + 1:
            self.notes.__exit__(None, None, None)
        self._last = time.perf_counter()

    @property
    def median(self) -> float:
        """Of the steps that are counted."""
        return sorted(self.seconds)[len(self.seconds) // 2]


def time_steps(
    method: Method, encoder: Encoder, tasks: list[Task], micro_batch: int | None = None
) -> tuple[float, list[Product]]:
    """Median seconds of a step, and its products."""
    watch = Stopwatch()
    method.adapt(encoder, tasks, micro_batch=micro_batch, progress=watch)
    return watch.median, watch.notes.products


def main() -> None:
    parser = described(__doc__)
    add_cases(parser, shots=[1, 5])
    add_recipe(parser, views="none")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings")
    parser.add_argument("--steps", type=int, default=5, help="counted; the table has their median")
    parser.add_argument("--micro-batch", type=int, default=None)
    given = parser.parse_args()
    settings = dict(one.split("=", 1) for one in given.set) | {"views": given.views}
    shown = ",".join(f"{name}={value}" for name, value in settings.items())
    print(f"{given.method}[{shown}], {given.precision}, {given.device}; medians of {given.steps}\n")
    settings["steps"] = given.steps + _WARM + 1
    print("| model | shots | tasks | s/step | s/step and task | TFLOP/step | TFLOP/s | bound, s | share |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in given.models:
        encoder = random_clip(name, given.device, given.precision)
        for shots in given.shots:
            for count in given.tasks:
                method = create(given.method, settings)
                tasks = random_tasks(encoder, count, shots)
                seconds, products = time_steps(method, encoder, tasks, given.micro_batch)
                flop = sum(product.flop for product in products)
                bound = time_alone(products, given.device, given.steps)
                print(
                    f"| {name} | {shots} | {count} | {seconds:.3f} | {seconds / count:.3f} "
                    f"| {flop / 1e12:.3f} | {flop / seconds / 1e12:.3f} | {bound:.3f} "
                    f"| {100 * bound / seconds:.0f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
