"""The paper's argument, tested: writes a part of docs/does-atha-work.md with what was measured.

    python -m benchmarks.does_atha_work --tasks 100 --steps 100 --out docs/does-atha-work.md

Four questions, each answered on the same tasks for every method: do tail tokens carry less of the class; does
plain fine-tuning lower CKA between domains and does the push restore it; where do gains come from; do learned
strengths keep their sign. Real images take part as pools of another model, with other photographs
domain: --also MODEL photos=PATH leaves=PATH scenes=PATH.

ATHA is added to prompt-lora, or to another method with --base clip-lora, vtt or limo; limo also trains on the
queries of a task.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.atha_parts import ALIGNED, ATHA, BEFORE, PLAIN, Found, page
from benchmarks.page_parts import replace_part
from jaxtyping import Float
from torch import Tensor

from farshot.arrays import NDArray
from farshot.bench.tasks import query_labels, sample_task
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.data.table import ImageTable
from farshot.evaluation.intervals import (
    Interval,
    mean_interval,
)
from farshot.explain import Domain, domain_cka, learned_strengths, subject, token_agreement
from farshot.explain.cka import embed
from farshot.methods import Adapted, Method, create
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.model.tower import Hook, Pass
from farshot.parts.alignment import choose_tokens, patch_class_similarity
from farshot.parts.anchors import transposed_anchors
from farshot.task import Task
from farshot.world import class_names, generate
from farshot.world.pools import POOLS as MINI

BASES = ("prompt-lora", "clip-lora", "vtt", "limo")
_WITH_CKA = (PLAIN, ATHA, "push only")
_BATCH = 64
_GROUPS = 8  # of images, for intervals


@dataclass(frozen=True)
class World:
    """A model, photographs of its domain, and pools far from it."""

    encoder: Encoder
    photos: Domain
    pools: list[Pool]


class Erase:
    """A part that replaces chosen patches before one block by the mean patch of their image.

    Args:
        which: "head", "tail" or "random": by similarity to the classes, or drawn by lot.
        texts: of the classes, (1, N, E).
    """

    def __init__(self, encoder: Encoder, texts: Tensor, which: str, share: float, block: int) -> None:
        self.anchors = transposed_anchors(texts, encoder.projection)
        self.which, self.share, self.block = which, share, block
        self.generator = torch.Generator().manual_seed(0)

    def places(self) -> dict[str, Hook]:
        """Before the block."""
        return {f"vision.{self.block}.input": self._erase}

    def _erase(self, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        patches = tokens[:, :, 1:]
        similarity = patch_class_similarity(patches, self.anchors)
        lot = torch.rand(similarity.shape[:-1], generator=self.generator).to(similarity.device)
        ranking = lot if self.which == "random" else None
        head = self.share if self.which != "tail" else 0.0
        choice = choose_tokens(similarity, head, self.share - head, ranking)
        gone = (choice.tail if self.which == "tail" else choice.head)[..., None]
        mean = patches.mean(dim=2, keepdim=True)
        return torch.cat([tokens[:, :, :1], torch.where(gone, mean, patches)], dim=2)


@torch.no_grad()
def erased_accuracy(
    encoder: Encoder, pool: Pool, share: float, block: int, images: int
) -> dict[str, NDArray[np.bool_]]:
    """Whether zero-shot over all classes of a pool is right, image by image: with all patches, and with a
    share of them erased."""
    table, block = pool.table, block * encoder.vision_depth // 12
    assert table.labels is not None
    rows = np.linspace(0, len(table) - 1, min(images, len(table))).astype(int)
    prompts = [f"a photo of a {name}." for name in table.names]
    texts = encoder.forward_texts(encoder.prompts([prompts])).final
    out = {}
    for which in ("none", "tail", "random", "head"):
        parts = [] if which == "none" else [Erase(encoder, texts, which, share, block)]
        right = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            pixels = torch.from_numpy(np.asarray(table.pixels(part, "squash", encoder.size)))
            seen = encoder.forward_images(pixels[None], Pass(parts))
            guess = torch.nn.functional.cosine_similarity(seen[0][:, None], texts[0][None], dim=-1).argmax(1)
            right.append(guess.cpu().numpy() == table.labels[part])
        out[which] = np.concatenate(right)
    return out


def states(base: str, steps: int) -> dict[str, Method]:
    """The methods that are compared: zero-shot, the base method, and ATHA on it."""
    settings = {"steps": str(steps)}
    if "views" in create(base).settings():
        settings["views"] = "none"
    found = {BEFORE: create("zero-shot", {"reading": "centre"}), PLAIN: create(base, settings)}
    for state, align in ALIGNED.items():
        found[state] = create("atha", settings | {"base": base, "align": align})
    return found


def measure(encoder: Encoder, pool: Pool, given: argparse.Namespace, photos: Domain) -> Found:
    """All states on the same tasks of one pool."""
    found = Found()
    tasks = [sample_task(pool, shots=given.shots, seed=given.seed, index=i) for i in range(given.tasks)]
    for state, made in states(given.base, given.steps).items():
        for start in range(0, len(tasks), given.side_by_side):
            batch = tasks[start : start + given.side_by_side]
            for task, adapted in zip(batch, made.adapt(encoder, batch), strict=True):
                _note(found, state, encoder, task, adapted, photos)
        print(f"{pool.name}, {state}: {100 * np.mean(found.accuracy[state]):.1f} %", flush=True)
    return found


def _note(found: Found, state: str, encoder: Encoder, task: Task, adapted: Adapted, photos: Domain) -> None:
    right = adapted.logits(task.table, task.query).argmax(1) == query_labels(task)
    found.accuracy.setdefault(state, []).append(float(right.mean()))
    model = subject(adapted, encoder)
    if state == BEFORE or state in _WITH_CKA:
        target = Domain("target", task.table.subset(task.query), task.class_names)
        value = domain_cka(embed(model, photos), embed(model, target))
        found.cka.setdefault(state, []).append(value)
    if state == ATHA:
        strengths = learned_strengths(model)
        found.pull.append(strengths.pull)
        found.push.append(strengths.push)


def source_images(pool: str | None, count: int) -> Domain:
    """Images of the domain that the model was trained on."""
    if pool is not None:
        table = open_pool(pool).table
        rows = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
        return Domain("photo", table.subset(rows), table.names)
    drawn, names = generate("photo", "test", range(count)), class_names("photo")
    return Domain("photo", ImageTable(tuple(drawn.pixels), drawn.labels, names, names), names)


def known_truth(encoder: Encoder, pool: Pool, images: int) -> list[Interval]:
    """Agreement of the unadapted model's would-be tokens with the truth of a mini world, mean over blocks;
    intervals are over groups of images."""
    task = sample_task(pool, ways=len(pool.sizes), shots=1, queries=1)
    model = subject(create("zero-shot").adapt(encoder, [task])[0], encoder)
    groups = []
    for start in range(1000, 1000 + images, images // _GROUPS):
        agreement = token_agreement(model, pool.name, range(start, start + images // _GROUPS))
        found: Float[NDArray[np.float64], "blocks 4"] = np.array(
            [list(truth) for truth in agreement.values()]
        )
        groups.append(found.mean(0))
    return [mean_interval(values) for values in np.stack(groups, axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    parser.add_argument("--pools", nargs="*", default=list(MINI), help="mini worlds")
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="NAME",
        help="another model, its photographs, and pools for it",
    )
    parser.add_argument("--base", choices=BASES, default=BASES[0], help="the method that ATHA is added to")
    parser.add_argument("--tasks", type=int, default=100, help="per pool, at least 2")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side-by-side", type=int, default=8, help="tasks adapted together")
    parser.add_argument(
        "--images", type=int, default=200, help="photographs, and images for the first question"
    )
    parser.add_argument("--share", type=float, default=0.3, help="of patches erased")
    parser.add_argument("--block", type=int, default=7, help="of 12, before which they are erased")
    given = parser.parse_args()
    if given.also and len(given.also) < 3:
        parser.error("--also needs a model, its photographs and at least one pool")
    worlds = [
        World(load_encoder("mini"), source_images(None, given.images), [open_pool(p) for p in given.pools])
    ]
    if given.also:
        model, photos, *pools = given.also
        own = source_images(photos, given.images)
        worlds.append(World(load_encoder(model), own, [open_pool(name) for name in pools]))
    places = [(world, pool) for world in worlds for pool in world.pools]
    erased = {
        pool.name: erased_accuracy(world.encoder, pool, given.share, given.block, given.images)
        for world, pool in places
    }
    truth = {
        pool.name: known_truth(world.encoder, pool, given.images)
        for world, pool in places
        if pool.name in MINI
    }
    results: dict[str, Found] = {}
    for world, pool in places:  # a page after each pool: an interruption costs one of them
        results[pool.name] = measure(world.encoder, pool, given, world.photos)
        replace_part(given.out, "taken apart", page(results, erased, truth, given))


if __name__ == "__main__":
    main()
