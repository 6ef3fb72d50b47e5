"""Upload an adapted model to the hub, with a model card made from its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farshot.errors import DataError, ModelError
from farshot.export.card import model_card
from farshot.storage.hub import put, repository
from farshot.storage.json_text import parse, parse_object
from farshot.storage.model_folder import FILES, PRIVATE, damaged, read_folder
from farshot.storage.paths import home

_CARD = "README.md"


def push_folder(
    folder: Path,
    repo: str,
    *,
    model: str | None = None,
    evaluation: Path | None = None,
    private: bool = False,
) -> str:
    """Upload a saved model; returns its address.

    Args:
        model: name of the base model on the hub, where it was adapted from a folder: a path means nothing to
            others.
        evaluation: what `farshot evaluate --json` printed, for the card.

    Raises:
        ModelError: no adapted model, a base that others cannot find, no login, no network.
        DataError: `evaluation` is no such file.
    """
    name = repository(repo)
    about, _ = read_folder(folder)
    about["base_model"] = model or _known_elsewhere(about["base_model"], folder)
    files = _files(home(folder), about["base_model"])
    measured = _read_evaluation(evaluation) if evaluation else None
    files[_CARD] = model_card(about, name, measured).encode()
    message = f"{about['method']} on {len(about['classes'])} classes, by farshot {about['farshot_version']}"
    return put(name, files, message, private=private)


def _files(folder: Path, base: str) -> dict[str, bytes]:
    """The folder's files by name, without what is known of the labelled images, which may be private; the
    base model is called what others call it."""
    names = [name for name in FILES if name not in PRIVATE and (folder / name).is_file()]
    files = {name: (folder / name).read_bytes() for name in names}
    for name, key in (("farshot.json", "base_model"), ("adapter_config.json", "base_model_name_or_path")):
        if name in files:
            with damaged(folder / name):
                said = parse_object(files[name]) | {key: base}
            files[name] = (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def _known_elsewhere(base: str, folder: Path) -> str:
    path = Path(base)
    if base == "mini" or (not path.is_absolute() and not path.exists() and base.count("/") == 1):
        return base
    raise ModelError(
        f"{folder} was adapted from the folder {base}, which others do not have; name its checkpoint on the "
        "hub with model=NAME, such as openai/clip-vit-base-patch16."
    )


def _read_evaluation(path: Path) -> Mapping[str, Any]:
    try:
        found = parse(home(path).read_text(encoding="utf-8"))
        _ = found["data"], found["images"], found["calibration_error"]
        if not all(isinstance(found["accuracy"][name], float) for name in ("value", "low", "high")):
            raise TypeError("no accuracy")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what `farshot evaluate ... --json` prints ({error}); write that to a file first."
        ) from error
    return dict(found)
