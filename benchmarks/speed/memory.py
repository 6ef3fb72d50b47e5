"""Peak memory of adaptation, each case in a separate process: before adapting, and at its peak.

python -m benchmarks.speed.memory --models ViT-B/16 --tasks 1 4 --shots 1 5 --views five --micro-batch 0 8
"""

from __future__ import annotations

import multiprocessing
import sys
from itertools import product
from typing import Any

from benchmarks.speed.models import random_clip, random_tasks
from benchmarks.speed.options import add_cases, add_recipe, described

from farshot.methods import create

STEPS = 2  # the second holds the optimiser's averages too


def peak(case: dict[str, Any]) -> tuple[float, float]:
    """GB held before adapting, and at its peak, by this process or on the device."""
    import resource

    import torch

    encoder = random_clip(case["model"], case["device"], case["precision"])
    tasks = random_tasks(encoder, case["tasks"], case["shots"])
    on_gpu = case["device"].startswith("cuda")

    def now() -> float:
        if on_gpu:
            return torch.cuda.max_memory_allocated() / 1e9
        # kilobytes on Linux, bytes on macOS
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return held / (1e9 if sys.platform == "darwin" else 1e6)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = now()
    method = create(case["method"], {"views": case["views"], "steps": STEPS})
    method.adapt(encoder, tasks, micro_batch=case["micro_batch"] or None)
    return before, now()


def main() -> None:
    parser = described(__doc__)
    add_cases(parser, shots=[1, 5])
    add_recipe(parser, views="five")
    parser.add_argument("--micro-batch", nargs="+", type=int, default=[0, 8], help="images; 0: all at once")
    given = parser.parse_args()
    print(f"{given.method}, views={given.views}, {given.precision}, {given.device}; GB\n")
    print("| model | shots | tasks | micro-batch | before adapting | peak |")
    print("|---|---:|---:|---:|---:|---:|")
    same = {name: getattr(given, name) for name in ("views", "precision", "device", "method")}
    for model, shots, tasks, micro in product(given.models, given.shots, given.tasks, given.micro_batch):
        case = {**same, "model": model, "shots": shots, "tasks": tasks, "micro_batch": micro}
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, at_most = pool.apply(peak, (case,))
        print(
            f"| {model} | {shots} | {tasks} | {micro or 'all'} | {before:.2f} | {at_most:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
