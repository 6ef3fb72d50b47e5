"""How near a student is to its teacher, by the number of pictures that it learns from: the table of
docs/export.md.

    python -m benchmarks.students photos/ --model photo-clip/ --shots 4 --pictures 720 --steps 400

The teacher is adapted to some pictures of every class; the student learns from others, without labels. Labels
of those that it does not learn from give the accuracy of both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from farshot import FewShotClassifier
from farshot.data.readers import read_table
from farshot.export.about import load_exact
from farshot.export.distillation import Distillation
from farshot.export.student import export_student


def share(found: dict[str, float]) -> str:
    """A share in per cent with its interval."""
    return " ".join(f"{100 * found[name]:.1f}" for name in ("value", "low", "high"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="labelled images")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--method", default="linear-probe")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--pictures", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--size", default="small")
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    table = read_table(given.folder)
    support, rest = table.draw(given.shots, 0)
    rest = np.random.default_rng(0).permutation(rest)
    with tempfile.TemporaryDirectory() as place:
        adapted = Path(place) / "adapted"
        FewShotClassifier(given.model, given.method, device="cpu").fit(table.subset(support)).save(adapted)
        teacher = load_exact(adapted)
        print("| pictures | agreement | chance | most frequent | teacher | student | ms, ms, ratio | MB |")
        for count in given.pictures:
            how = Distillation(size=given.size, steps=given.steps)
            about = export_student(
                *(teacher, table.subset(rest[:count]), Path(place) / str(count), how),
                labelled=table.subset(rest),
            )
            found = about["student"]
            speed, on = found["speed"], found["labelled"]
            print(
                f"| {count} | {share(found['agreement'])} | {100 * found['chance']:.1f} "
                f"| {100 * found['most_frequent']:.1f} | {share(on['teacher'])} | {share(on['student'])} "
                f"| {speed['teacher_ms']} {speed['student_ms']} {speed['ratio']} "
                f"| {speed['teacher_bytes'] / 1e6:.1f} {found['bytes'] / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
