"""How much faster a step is than the obvious loop: transformers and PEFT, float32, one task after the other.

    python -m benchmarks.speed.naive --models ViT-B/16 --shots 1 --tasks 1 4 --precision bf16

Both run the released variant on the same tasks in the same process, in turn; tests/test_speed.py holds that
the losses of the two loops agree.
"""

from __future__ import annotations

from benchmarks.speed.models import PRECISIONS, random_clip, random_tasks
from benchmarks.speed.options import add_cases, described
from benchmarks.speed.plain_loop import PlainLoop
from benchmarks.speed.products import median_seconds
from benchmarks.speed.step import time_steps

from farshot.methods import create


def main() -> None:
    parser = described(__doc__)
    add_cases(parser, shots=[1])
    parser.add_argument("--precision", nargs="+", default=["bf16", "float32"], choices=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=5, help="counted; the table has their median")
    given = parser.parse_args()
    print(f"atha[variant=released,views=none], {given.device}; medians of {given.steps}\n")
    print("| model | shots | precision | tasks | s/step and task | naive loop, s/step and task | ratio |")
    print("|---|---:|---|---:|---:|---:|---:|")
    settings = {"variant": "released", "views": "none", "steps": given.steps + 2}
    for name in given.models:
        plain = random_clip(name, given.device)
        for shots in given.shots:
            loop = PlainLoop(plain, random_tasks(plain, 1, shots)[0])
            for precision in given.precision:
                encoder = random_clip(name, given.device, precision)
                for count in given.tasks:
                    before = median_seconds(loop.step, given.device, given.steps)
                    tasks = random_tasks(encoder, count, shots)
                    ours, _ = time_steps(create("atha", settings), encoder, tasks)
                    after = median_seconds(loop.step, given.device, given.steps)
                    naive = (before + after) / 2
                    print(
                        f"| {name} | {shots} | {precision} | {count} | {ours / count:.3f} | {naive:.3f} "
                        f"| {naive * count / ours:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
