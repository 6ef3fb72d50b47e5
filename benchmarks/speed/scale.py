"""Tasks per hour against how many are adapted side by side, and the time of the paper's whole table from it.

    python -m benchmarks.speed.scale --tasks 1 2 4 8 --views five --precision bf16

Measured: a step, and the classification of 15 queries per class. Computed: 100 steps of each task, 4 pools,
800 tasks at 1 shot and 400 at 5 (arXiv 2605.29776), at the best number of tasks side by side of each.
"""

from __future__ import annotations

import time

from benchmarks.speed.models import CONFIGS, random_clip, random_tasks
from benchmarks.speed.options import add_recipe, described
from benchmarks.speed.step import time_steps

from farshot.methods import create

STEPS, QUERIES = 100, 15
TABLE = {1: 4 * 800, 5: 4 * 400}  # shots: tasks


def main() -> None:
    parser = described(__doc__)
    add_recipe(parser, views="five")
    parser.add_argument("--model", default="ViT-B/16", choices=list(CONFIGS))
    parser.add_argument("--shots", nargs="+", type=int, default=list(TABLE), choices=list(TABLE))
    parser.add_argument("--tasks", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--micro-batch", type=int, default=None)
    parser.add_argument("--steps", type=int, default=3, help="counted; the table has their median")
    given = parser.parse_args()
    encoder = random_clip(given.model, given.device, given.precision)
    print(f"{given.method}, {given.model}, views={given.views}, {given.precision}, {given.device}\n")
    print("| shots | tasks side by side | s/step | s of queries per task | s per task | tasks per hour |")
    print("|---:|---:|---:|---:|---:|---:|")
    best = {}
    for shots in given.shots:
        for count in given.tasks:
            method = create(given.method, {"views": given.views, "steps": given.steps + 2})
            tasks = random_tasks(encoder, count, shots, queries=QUERIES)
            step, _ = time_steps(method, encoder, tasks, given.micro_batch)
            (adapted,) = create(given.method, {"views": "none", "steps": 1}).adapt(encoder, tasks[:1])
            start = time.perf_counter()
            adapted.logits(tasks[0].table, tasks[0].query)
            asked = time.perf_counter() - start
            whole = STEPS * step / count + asked
            best[shots] = min(whole, best.get(shots, whole))
            row = f"| {shots} | {count} | {step:.2f} | {asked:.2f} | {whole:.1f} | {3600 / whole:.1f} |"
            print(row, flush=True)
    if set(best) == set(TABLE):
        hours = sum(TABLE[shots] * seconds for shots, seconds in best.items()) / 3600
        print(f"\nThe paper's table, {sum(TABLE.values())} tasks, computed: {hours:.1f} h")


if __name__ == "__main__":
    main()
