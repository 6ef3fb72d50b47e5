"""The licence of a base model, as its own files tell it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard, try_to_load_from_cache

from farshot.sanitize import plain
from farshot.storage.paths import home

_CARD = "README.md"
_MOST_BYTES = 1 << 20
_MOST_LETTERS = 100


def licence_of(base: str) -> str:
    """What is known of the licence of a base model, in one or two sentences; nothing is fetched.

    Args:
        base: as `load_encoder` takes it.
    """
    also = "The licences of the pictures apply as well."
    if base == "mini":
        return f"The base model mini is part of farshot and has its licence, Apache 2.0. {also}"
    folder, name = home(base), base.removeprefix("hf-hub:")
    if folder.exists():
        card = folder / _CARD if folder.is_dir() else folder.with_name(_CARD)
        shown = folder.name
        where = "in the files that came with it"
    else:
        cached = try_to_load_from_cache(name, _CARD) if name.count("/") == 1 else None
        card, shown = Path(cached) if isinstance(cached, str) else Path(), name
        where = f"at https://huggingface.co/{plain(name)}"
    found = _declared(card)
    if found is None:
        return f"The licence of the base model {plain(shown)} applies to this model; read it {where}. {also}"
    return (
        f"The licence of the base model {plain(shown)} applies to this model: {found}, as its model card "
        f"says; read it {where}. {also}"
    )


def _declared(card: Path) -> str | None:
    """The licence that a model card declares; None where there is none."""
    try:
        if not card.is_file() or card.stat().st_size > _MOST_BYTES:
            return None
        text = card.read_text(encoding="utf-8")
        if not text.startswith("---"):
            return None
        told = ModelCard(text, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # a card may be anything, and YAML has many errors
        return None
    names = [told.get("license_name"), told.get("license")]
    found = [str(name) for name in names if name and str(name).lower() not in ("other", "unknown")]
    return plain(found[0], _MOST_LETTERS) if found else None
