"""Workspaces of drawn pictures, for tests."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from farshot.app.workspace import ClassWords, Workspace
from farshot.app.workspace.intake import Upload
from farshot.world import class_names, generate

WORLD = "mini-crops"
CLASSES = class_names(WORLD)[:2]


def drawn(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    """Label and PNG of the first pictures of each of two classes, class by class."""
    found: dict[str, list[bytes]] = {name: [] for name in CLASSES}
    images = generate(WORLD, "test", np.arange(start, start + 40 * count))
    for pixels, label in zip(images.pixels, images.labels, strict=True):
        name = class_names(WORLD)[label]
        if name in found and len(found[name]) < count:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            found[name].append(buffer.getvalue())
    return [(name, data) for name, pictures in found.items() for data in pictures]


def uploads(folder: Path, pictures: list[tuple[str, bytes]]) -> list[Upload]:
    """The pictures as a browser would send them."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for number, (_, data) in enumerate(pictures):
        path = folder / str(number)
        path.write_bytes(data)
        out.append(Upload(f"{number}.png", path))
    return out


def zipped(path: Path, pictures: list[tuple[str, bytes]]) -> Upload:
    """A zip with a folder per class."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (label, data) in enumerate(pictures):
            archive.writestr(f"photos/{label}/{number}.png", data)
    return Upload("photos.zip", path)


def labelled(folder: Path, count: int = 3, more: int = 0) -> Workspace:
    """A workspace of two classes with so many pictures each, and so many each without a label."""
    workspace = Workspace(folder / "workspace")
    workspace.name_classes([ClassWords(name) for name in CLASSES])
    pictures = drawn(count + more)
    taken, refused = workspace.take(uploads(folder / "sent", pictures))
    assert not refused
    for place, (picture, (label, _)) in enumerate(zip(taken, pictures, strict=True)):
        if place % (count + more) < count:
            workspace.label([picture.id], label)
    return workspace


def many(folder: Path, count: int) -> Workspace:
    """A workspace of so many pictures, which share a few files."""
    workspace = labelled(folder, 1)
    place = workspace.folder / "state.json"
    state = {"format": 1, "classes": [{"name": name, "description": ""} for name in CLASSES]}
    file = workspace.pictures[0].file
    state["pictures"] = [
        {"id": f"{number:032x}", "name": f"{number}.png", "file": file, "label": None}
        for number in range(count)
    ]
    state["choice"] = {"model": "mini", "method": "clap", "quick": True}
    for log in workspace.folder.glob("changes-*.jsonl"):
        log.unlink()
    place.write_text(json.dumps(state))
    return Workspace(workspace.folder)
