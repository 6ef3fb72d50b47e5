"""Do head tokens lie on the class and tail tokens on background? The truth table of docs/mini-world.md.

    python benchmarks/mini-world/truth.py --tasks 8 > truth.md

For each target: the first 1-shot tasks of the reporting seed, each adapted with the recipe of run.sh, then
asked on test images of the task's classes which tokens it would move. "Zero-shot" is the unadapted model with
the paper's operator.
"""

import argparse
import sys

import numpy as np

from farshot.bench.tasks import FIRST_REPORTING_SEED, sample_task
from farshot.data.pools import open_pool
from farshot.evaluation.intervals import mean_interval
from farshot.explain.subject import subject
from farshot.explain.truth import token_agreement
from farshot.methods import create
from farshot.model.find import load_encoder
from farshot.world.pools import POOLS as MINI

RECIPE = {"views": "none", "steps": 50}
MODELS = {
    "zero-shot": ("zero-shot", {"reading": "centre"}),
    "prompt-lora": ("prompt-lora", RECIPE),
    "atha, paper": ("atha", RECIPE),
    "atha, released": ("atha", {"variant": "released", **RECIPE}),
}
FIRST_IMAGE = 1_000_000  # far beyond those of the pools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8, help="tasks of each target")
    parser.add_argument("--images", type=int, default=200, help="test images of each target")
    parser.add_argument("--blocks", type=int, nargs="+", default=[0, 3, 6, 7, 9, 11])
    given = parser.parse_args()
    encoder = load_encoder("mini")
    indices = np.arange(FIRST_IMAGE, FIRST_IMAGE + given.images)
    heading = " | ".join(f"block {b}" for b in given.blocks)
    print(f"| target | model | tokens | blind | {heading} |")
    print("|---" * (4 + len(given.blocks)) + "|")
    for world in MINI:
        pool = open_pool(world)
        tasks = [sample_task(pool, seed=FIRST_REPORTING_SEED, index=i) for i in range(given.tasks)]
        for label, (name, settings) in MODELS.items():
            found = [
                token_agreement(subject(adapted, encoder), world, indices, given.blocks)
                for adapted in create(name, settings).adapt(encoder, tasks)
            ]
            for kind, field, blind in (
                ("head on class", "head_on_class", "class_share"),
                ("tail on background", "tail_on_background", "background_share"),
            ):
                cells = [
                    mean_interval([100 * getattr(one[block], field) for one in found])
                    for block in given.blocks
                ]
                chance = 100 * np.mean([getattr(one[given.blocks[0]], blind) for one in found])
                shown = " | ".join(f"{cell.mean:.0f} ± {cell.half:.0f}" for cell in cells)
                print(f"| {world} | {label} | {kind} | {chance:.0f} | {shown} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
