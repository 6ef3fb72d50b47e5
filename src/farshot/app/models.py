"""The base models that the app offers; paths typed into a page are never accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from farshot.app.offers import OFFERS, Offer
from farshot.app.texts import Text
from farshot.model.find import hub_parts
from farshot.model.formats import clip_hf, open_clip
from farshot.storage.hub import is_cached
from farshot.storage.json_text import parse
from farshot.storage.paths import home, own_name


@dataclass(frozen=True)
class ModelChoice:
    """A base model: as `load_encoder` takes it, as a list shows it, and one sentence; both may be a `Text`.

    Attributes:
        here: whether it is on this computer, so that loading it asks nobody.
    """

    name: str
    title: str
    about: str
    here: bool = True


MINI = ModelChoice(
    "mini",
    Text("model.mini"),
    Text("model.mini_about"),
)


def models(given: Sequence[str] = ()) -> list[ModelChoice]:
    """Those given on the command line first, then those in the hub's cache, then the bundled one."""
    found = {name: _given(name) for name in given if name != MINI.name}
    known = {hub_parts(one.model)[0]: one for one in OFFERS}
    for name in _cached():
        if name not in known:
            found[name] = ModelChoice(name, name, Text("model.cached"))
    found |= {one.model: of_offer(one) for one in OFFERS if is_here(one)}
    first = [MINI] if given and given[0] == MINI.name else []
    return _distinct([*first, *found.values(), *([] if first else [MINI])])


def _distinct(choices: list[ModelChoice]) -> list[ModelChoice]:
    """The same, with titles of which no two are equal: those of one name have the folders above in theirs."""
    places = [home(one.name).absolute().parts for one in choices]
    titles = [one.title for one in choices]
    for depth in range(2, max(map(len, places)) + 1):
        twice = [number for number, title in enumerate(titles) if titles.count(title) > 1]
        for number in twice:
            titles[number] = "/".join(places[number][-depth:])
    return [replace(one, title=title) for one, title in zip(choices, titles, strict=True)]


def of_offer(offer: Offer) -> ModelChoice:
    """An encoder that is here."""
    return ModelChoice(
        offer.model, offer.title, Text("offer.about", good_for=offer.good_for, licence=offer.licence)
    )


def is_here(offer: Offer) -> bool:
    """Whether its weights are on this computer, whole."""
    repo, file = hub_parts(offer.model.partition("@")[0])
    return is_cached(repo, [file] if file else [*clip_hf.WEIGHTS, *open_clip.WEIGHTS])


def _given(name: str) -> ModelChoice:
    path = home(name)
    if path.exists():
        about = Text("model.folder") if path.is_dir() else Text("model.file")
        return ModelChoice(name, own_name(path), about)
    return ModelChoice(name, name, Text("model.hub"), False)


def _cached() -> list[str]:
    """Names of the CLIPs in the hub's cache."""
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    return sorted(
        repo.repo_id
        for repo in cache.repos
        if repo.repo_type == "model" and any(_is_clip(r.snapshot_path) for r in repo.revisions)
    )


def _is_clip(folder: Path) -> bool:
    try:
        about = parse((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    weights = [*folder.glob("model.safetensors"), *folder.glob("model-*-of-*.safetensors")]
    return isinstance(about, dict) and about.get("model_type") == "clip" and bool(weights)
