"""From a name to an Encoder: a folder, a file, a hub name, or the name of a bundled model.

    openai/clip-vit-base-patch16             on the hub; "hf-hub:" may precede it
    chendelong/RemoteCLIP:RemoteCLIP-ViT-B-32.pt@gelu=exact     a file of a hub repository, and an option
    checkpoints/bioclip                      a folder
    checkpoints/remote.pt@gelu=exact         a file
    mini                                     the bundled model of the mini world

A local path never touches the network; a hub name that is in the local cache works without it too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import pkgutil
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable
from weakref import WeakValueDictionary

import torch

from farshot import plugins
from farshot.errors import ModelError
from farshot.model import formats
from farshot.model.device import PRECISIONS, check_machine
from farshot.model.encoder import Encoder
from farshot.model.formats.files import (
    GELUS,
    TORCH_FILES,
    Checkpoint,
    Source,
    check_gelu,
    first_line,
    read_json,
)
from farshot.sanitize import short
from farshot.storage import hub
from farshot.storage.paths import home

_LOG = logging.getLogger(__name__)

SUPPORTED = (
    "CLIP, MetaCLIP 2, SigLIP and SigLIP 2 of transformers; open_clip's native pairs, BiomedCLIP, SigLIP, "
    "PE-Core, EVA-02 and MobileCLIP-B; bare state dicts in open_clip's layout; DINOv2 and DINOv3 for images"
)
_SMALL = ("*.json", "*.txt", "*.model")
_HUB = "hf-hub:"
_OPTIONS = re.compile(r"(@\w+=[^@/\\]*)+$")
_WEIGHTS = (".safetensors", *TORCH_FILES)


@runtime_checkable
class Format(Protocol):
    """A module of farshot.model.formats that reads one kind of checkpoint."""

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it can read this."""
        ...

    @staticmethod
    def read(source: Source) -> Checkpoint:
        """Reads it."""
        ...


def load_encoder(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    gelu: str | None = None,
    size: int | None = None,
) -> Encoder:
    """Loads an encoder of any supported format.

    Args:
        model: a hub name, folder or file, as above.
        device: where the weights go; "auto" takes a GPU where there is one.
        precision: "float32" or "bf16", of the frozen weights and activations.
        gelu: "quick" or "exact", for a bare state dict, which does not say; the same as `@gelu=...`. Where a
            configuration says otherwise, the model is refused.
        size: side of an image in pixels, where it is not the checkpoint's; positions are resized.

    Raises:
        ModelError: with one sentence that says what is wrong with the checkpoint and the way out.
    """
    place = check_machine(device, precision)
    name, options = _split_options(str(model))
    source = locate(_joined(name, options if gelu is None else {**options, "gelu": gelu}))
    try:
        checkpoint = _reader(source).read(source)
        check_gelu(source, checkpoint)
        encoder = checkpoint.build(source.name, size)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ModelError(
            f"The configuration or weights of {model} are damaged ({first_line(error)}); fetch the "
            "checkpoint again."
        ) from error
    _LOG.info("loaded %s (%s) to %s in %s", model, encoder.origin.format, place, precision)
    return encoder.to(place, PRECISIONS[precision])


@cache
def bundled() -> dict[str, plugins.Point]:
    """Checkpoints that come with installed packages, by name; `mini` is farshot's own.

    Warns:
        PluginWarning: a package has one of a name that is taken.
    """
    found: dict[str, plugins.Point] = {}
    for point in plugins.entries(plugins.ENCODERS):
        if point.name in found:
            plugins.skip(
                point,
                f"The encoder {point.name!r} of the package {plugins.package(point)} is not used, because "
                f"the package {plugins.package(found[point.name])} has one of this name.",
            )
        else:
            found[point.name] = point
    return found


def bundled_folder(name: str) -> Path:
    """Folder of a checkpoint that comes with an installed package.

    Raises:
        ModelError: the package is broken.
    """
    point = bundled()[name]
    folder = plugins.load(point)
    if folder is None:
        raise ModelError(plugins.why_broken(plugins.ENCODERS, name) or name)
    try:
        return Path(folder())
    except Exception as error:  # a foreign function may raise anything
        raise ModelError(
            f"The encoder {name!r} of the package {plugins.package(point)} cannot be found "
            f"({first_line(error)}); update or uninstall the package."
        ) from error


@dataclass(frozen=True)
class _Request:
    """What was asked for, and of a local checkpoint the state of its files."""

    model: str
    device: str
    precision: str
    files: tuple[tuple[str, int, int], ...]


class Loaded:
    """The encoder that was loaded last, and the others as long as something uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: WeakValueDictionary[_Request, Encoder] = WeakValueDictionary()
        self._last: Encoder | None = None

    def get(self, request: _Request) -> Encoder:
        with self._lock:
            encoder = self._used.get(request)
            if encoder is None:
                encoder = load_encoder(request.model, device=request.device, precision=request.precision)
                self._used[request] = encoder
            self._last = encoder
            return encoder


LOADED = Loaded()
"""What `shared_encoder` uses, in this process."""


def shared_encoder(model: str | Path, *, device: str = "cpu", precision: str = "float32") -> Encoder:
    """Load an encoder as `load_encoder`, or return the one that is loaded: encoders never change.

    scikit-learn's `clone` and `GridSearchCV` make many classifiers of one model. The last encoder stays in
    memory; a local checkpoint is loaded again when its files have changed.
    """
    path, files = home(_split_options(str(model))[0]), list[tuple[str, int, int]]()
    with contextlib.suppress(OSError):  # loading says what is wrong with the folder
        for file in sorted(path.iterdir() if path.is_dir() else [path]):
            if file.is_file():
                state = file.stat()
                files.append((str(file.resolve()), state.st_size, state.st_mtime_ns))
    return LOADED.get(_Request(str(model), device, precision, tuple(files)))


def encoder_of_clip(model: Any, *, device: str = "cpu", precision: str = "float32") -> Encoder:
    """Convert a transformers CLIPModel: its weights, with the tokenizer and preprocessing of the checkpoint
    that it was loaded from.

    Raises:
        ModelError: it does not say where it was loaded from, or its tokenizer is not there.
    """
    name = str(getattr(model, "name_or_path", ""))
    if not name:
        raise ModelError(
            "This CLIPModel was not loaded from a checkpoint, so it has no tokenizer; save both with "
            "save_pretrained to one folder and give the folder."
        )
    place = locate(name).folder
    with tempfile.TemporaryDirectory(prefix="farshot-") as folder:
        for file in {file for pattern in _SMALL for file in place.glob(pattern)}:
            if not file.name.endswith(".index.json"):  # which would name files of weights that are not copied
                shutil.copy(file, folder)
        model.save_pretrained(folder, safe_serialization=True)
        encoder = load_encoder(folder, device=device, precision=precision)
    return encoder.from_source(name)


def weights_hash(model: Any) -> str:
    """Of the weights of a CLIPModel, which may be trained on between two uses."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_clip_model(model: object) -> bool:
    """Whether an object is a transformers CLIPModel; does not import transformers."""
    return any(
        kind.__name__ == "CLIPModel" and kind.__module__.startswith("transformers.")
        for kind in type(model).__mro__
    )


def absolute_source(model: str | Path) -> str:
    """The same model with an absolute path if it is a local one, so that it is found from any folder."""
    name, options = _split_options(str(model))
    if name in bundled() or not _exists(name):
        return str(model)
    return _joined(str(home(name).resolve()), options)


def check_source(model: str | Path) -> None:
    """Refuses a name that is no model at all, without reading weights or asking the network.

    Raises:
        ModelError: no such folder, file or possible hub name.
    """
    name, _ = _split_options(str(model))
    if name in bundled() or _exists(name):
        return
    hub_parts(name)


def locate(model: str) -> Source:
    """Where a model lies; of a hub repository only small files are fetched yet.

    Raises:
        ModelError: nowhere.
    """
    name, chosen = _split_options(model)
    if name in bundled():
        return Source(model, bundled_folder(name), options=chosen)
    path = home(name)
    if _exists(name) and path.is_dir():
        return Source(model, path, options=chosen, fetch=_cached_small)
    if _exists(name) and path.is_file():
        if path.suffix not in _WEIGHTS:
            raise ModelError(f"{model} is a file of another kind; weights end with {', '.join(_WEIGHTS)}.")
        return Source(model, path.parent, path, chosen, fetch=_cached_small)
    repo, file = hub_parts(name)
    folder = _fetch_small(repo)
    if file:
        inside = hub.download(repo, [file], **_messages(repo)) / file
        if not inside.is_file():
            raise ModelError(f"{repo} has no file {file}; check the spelling.")
        return Source(model, inside.parent, inside, chosen, fetch=_fetch_small)
    return Source(model, folder, options=chosen, fetch=_fetch_small, find_weights=_finder(repo, folder))


def _split_options(model: str) -> tuple[str, dict[str, str]]:
    """The name and the options behind it; a folder may have an "@" in its name."""
    found = _OPTIONS.search(model)
    if found is None or _exists(model):
        return model, {}
    options = dict(part.partition("=")[::2] for part in found[0].split("@")[1:])
    unknown = [key for key in options if key != "gelu"]
    if unknown:
        raise ModelError(
            f"{model} has an unknown option {unknown[0]!r}; the only one is @gelu=quick or @gelu=exact."
        )
    if options["gelu"] not in GELUS:
        raise ModelError(f"{model} has an unknown GELU; write @gelu=quick or @gelu=exact.")
    return model[: found.start()], options


def _joined(name: str, options: Mapping[str, str]) -> str:
    """The opposite of `_split_options`."""
    return "@".join([name, *(f"{key}={value}" for key, value in options.items())])


def _exists(name: str) -> bool:
    """Whether there is a folder or file of this name."""
    try:
        return home(name).exists()
    except OSError:  # too long for a name
        return False


def hub_parts(name: str) -> tuple[str, str]:
    """Repository and file of OWNER/NAME or OWNER/NAME:path."""
    repo, _, file = name.removeprefix(_HUB).partition(":")
    if repo.count("/") != 1 or not all(repo.split("/")) or repo.startswith((".", "~")):
        raise ModelError(
            f"There is no folder or file {name}; give a checkpoint's folder or file, a hub name such as "
            f"openai/clip-vit-base-patch16, or {', '.join(sorted(bundled())) or 'a bundled model'}."
        )
    return repo, file


class _Messages(TypedDict):
    """Those of `hub.download`."""

    absent: str
    unreachable: str


def _messages(repo: str) -> _Messages:
    return {
        "absent": f"The hub has no model {repo}, and there is no folder of that name; check the spelling.",
        "unreachable": f"{repo} is not in the local cache and the hub cannot be reached; connect once to "
        "download it, or give the folder of a checkpoint, or use --model mini.",
    }


def _fetch_small(repo: str) -> Path:
    return hub.download(repo, _SMALL, **_messages(repo))


def _cached_small(repo: str) -> Path:
    """The same from the local cache alone, for a checkpoint in a folder."""
    return hub.download(repo, _SMALL, **_messages(repo), cached=True)


def _finder(repo: str, folder: Path) -> Callable[[Sequence[str]], Path | None]:
    """The first of several files that a repository has: cached ones first, so that no network is needed."""

    def find(names: Sequence[str]) -> Path | None:
        cached = next((folder / name for name in names if _complete(folder / name)), None)
        if cached is not None:
            return cached
        for name in names:
            patterns = [name]
            if name.endswith(".index.json"):
                stem, _, ending = name.removesuffix(".index.json").partition(".")
                patterns.append(f"{stem}-*-of-*.{ending}")
            place = hub.download(repo, patterns, **_messages(repo)) / name
            if _complete(place):
                return place
        return None

    return find


def _complete(path: Path) -> bool:
    """Whether a file, or an index and all that it names, is there."""
    if not path.is_file():
        return False
    if path.name.endswith(".index.json"):
        files = read_json(path).get("weight_map")
        return not isinstance(files, Mapping) or all(
            (path.parent / str(name)).is_file() for name in files.values()
        )
    return True


def _reader(source: Source) -> Format:
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    for name in names:
        module = importlib.import_module(f"{formats.__name__}.{name}")
        if hasattr(module, "recognises") and module.recognises(source):
            return module  # type: ignore[return-value]
    if source.file is None and not any(map(source.has, ("config.json", "open_clip_config.json"))):
        raise ModelError(
            f"{source.name} has neither config.json nor open_clip_config.json, so it is no checkpoint that "
            f"farshot knows; supported are {SUPPORTED}."
        )
    config = source.json("config.json")  # timm's has an architecture
    kind = config.get("model_type") or config.get("architecture")
    kind = kind or source.json("open_clip_config.json").get("model_cfg") or "unknown"
    raise ModelError(
        f"{source.name} is a checkpoint of type {short(kind)}, which farshot cannot read; supported are "
        f"{SUPPORTED}."
    )
