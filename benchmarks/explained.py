"""Makes the pictures and prints the numbers of docs/explain.md: four states of the mini CLIP on mini-crops.

python -m benchmarks.explained --out docs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.explain import (
    Domain,
    Subject,
    class_token_entropy,
    compose,
    domain_similarity,
    draw_class_token_entropy,
    draw_similarities,
    draw_similarity_curves,
    draw_strengths,
    draw_token_agreement,
    explain_images,
    learned_strengths,
    outline_truth,
    panels,
    similarity_curves,
    state_similarity,
    subject,
    token_agreement,
)
from farshot.world import class_names, generate

WORLD = "mini-crops"
STATES = {
    "before": ("zero-shot", {}),
    "plain": ("prompt-lora", {}),
    "push only": ("atha", {"align": "push"}),
    "ATHA": ("atha", {}),
}
CURVE_BLOCK = 8  # behind the block before which the paper's variant pulls


def images_of(world: str, start: int, count: int) -> ImageTable:
    """Labelled test images of a world."""
    drawn = generate(world, "test", range(start, start + count))
    names = class_names(world)
    return ImageTable(tuple(drawn.pixels), drawn.labels, names, names)


def adapt(shots: int, steps: int) -> dict[str, FewShotClassifier]:
    """All states, adapted to the same images."""
    table = images_of(WORLD, 0, 400)
    support = table.subset(table.draw(shots, 0)[0])
    out = {}
    for state, (method, settings) in STATES.items():
        common = {} if method == "zero-shot" else {"steps": steps, "views": "none"}
        out[state] = FewShotClassifier("mini", method, settings=settings | common).fit(support)
    return out


def known_truth(model: Subject, index: int) -> Image.Image:
    """One image, its tokens and, outlined, the patches that show its class; prints the same as numbers."""
    drawn = generate(WORLD, "test", [index])
    with TemporaryDirectory() as folder:  # for a figure that has a name
        path = Path(folder) / f"{WORLD}-test-{index}.png"
        Image.fromarray(drawn.pixels[0]).save(path)
        shown = next(explain_images(model, ImageTable((path,), None, (), ()), blocks=[1, 7, 11]))
        plain = panels(shown)
    on = drawn.truth[0].ravel() >= 0
    name = class_names(WORLD)[drawn.labels[0]]
    print(f"image {index} of {WORLD}: {name}, {on.sum()} of {on.size} patches show it")
    for moved in shown.moved:
        head, tail = np.flatnonzero(moved.head), np.flatnonzero(moved.tail)
        print(
            f"before block {moved.block}: "
            f"head {head.tolist()}, {on[head].sum()} of {len(head)} on the class; "
            f"tail {tail.tolist()}, {(~on[tail]).sum()} of {len(tail)} on background"
        )
    return compose(shown, [outline_truth(panel, drawn.truth[0]) for panel in plain])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--images", type=int, default=200, help="of each domain")
    parser.add_argument("--image", type=int, default=505, help="whose tokens are shown")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    states = adapt(given.shots, given.steps)
    models = {state: subject(one.adapted_, one.encoder_) for state, one in states.items()}
    test, photos = images_of(WORLD, 500, given.images), images_of("photo", 0, given.images)
    print(f"{given.shots} shots, {given.steps} steps, {given.images} images of each domain")
    for state, one in states.items():
        print(f"{state}: accuracy {100 * one.evaluate(test).accuracy.mean:.1f} %")
    target, source = Domain(WORLD, test, test.names), Domain("photo", photos, photos.names)
    save(
        given.out, "curves", draw_similarity_curves(similarity_curves(models, [source, target], CURVE_BLOCK))
    )
    between = domain_similarity(models, source, target)
    save(given.out, "cka", draw_similarities(between, f"Linear CKA of photo and {WORLD}"))
    own = state_similarity(models, target, reference="before")
    print("linear CKA between domains:", {name: round(value, 4) for name, value in between.items()})
    print("linear CKA with the state before:", {name: round(value, 4) for name, value in own.items()})
    entropies = {state: class_token_entropy(model, test) for state, model in models.items()}
    save(given.out, "entropy", draw_class_token_entropy(entropies))
    strengths = {state: learned_strengths(models[state]) for state in ("push only", "ATHA")}
    save(given.out, "strengths", draw_strengths(strengths))
    for state, found in strengths.items():
        print(f"{state}: pull {np.round(found.pull, 4).tolist()}, push {np.round(found.push, 4).tolist()}")
    indices = range(500, 500 + given.images)
    agreement = {s: token_agreement(models[s], WORLD, indices) for s in ("before", "ATHA")}
    save(given.out, "truth", draw_token_agreement(agreement))
    for state, by_block in agreement.items():
        for block, truth in by_block.items():
            words = ", ".join(f"{name} {100 * share:.1f} %" for name, share in truth._asdict().items())
            print(f"{state}, block {block}: {words}")
    known_truth(models["ATHA"], given.image).save(given.out / "explain-known-truth.png", optimize=True)


def save(folder: Path, name: str, figure: Figure) -> None:
    """A chart, small enough for a repository."""
    figure.savefig(folder / f"explain-{name}.png", dpi=90)


if __name__ == "__main__":
    main()
