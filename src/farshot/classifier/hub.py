"""Adapted models on the Hugging Face hub: upload with a model card made from the run, and load."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from farshot.classifier.card import is_unchanged, model_card
from farshot.errors import DataError, ModelError
from farshot.storage.hub import PREFIX, is_on_hub, put, repository
from farshot.storage.json_text import as_json, parse, parse_object
from farshot.storage.model_folder import FILES, PRIVATE, damaged, model_id, read_folder, read_labelled
from farshot.storage.paths import home

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier

_CARD = "README.md"
_SAME = 0.99
"""Cosine from which on a row of a tensor is taken for the features of a labelled image."""


class UploadNote(UserWarning):
    """Something to know about an upload."""


class CardFacts(NamedTuple):
    """What a model card says that the model does not know.

    Attributes:
        license: as the hub writes it, such as "cc-by-4.0"; "unknown" where None.
        datasets: names on the hub of the data it was adapted to.
        evaluation: file with the output of `farshot evaluate --json`.
        replace: also a card that somebody else wrote or edited.
    """

    license: str | None = None
    datasets: Sequence[str] = ()
    evaluation: Path | None = None
    replace: bool = False


class OnHub:
    """What the classes of the hub's libraries have."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        model: Any = None,
        device: str = "auto",
        precision: str | None = None,
    ) -> FewShotClassifier:
        """Load an adapted model: a folder that is there, or else OWNER/NAME on the hub.

        Args:
            model, device, precision: as of `farshot.load`.

        Raises:
            ModelError: as `farshot.load`.
        """
        from farshot.classifier.saved import load

        local = is_on_hub(name) or home(name).exists() or str(name).count("/") != 1
        place = name if local else f"{PREFIX}{name}"
        return load(place, model=model, device=device, precision=precision)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        model: str | None = None,
        facts: CardFacts | None = None,
    ) -> str:
        """Upload the adapted model to the hub, with a model card; returns its address.

        Args:
            repo_id: OWNER/NAME; the repository is created if it does not exist.
            private: create a private repository.
            model: name of the base model on the hub, if it was adapted from a folder.
            facts: for the card.

        Raises:
            ModelError: no login, no network, or a base model that others cannot find.
        """
        with tempfile.TemporaryDirectory(prefix="farshot-") as above:
            self.save(Path(above) / "adapted")  # type: ignore[attr-defined]
            return push_folder(Path(above) / "adapted", repo_id, model=model, private=private, facts=facts)


def push_folder(
    folder: Path,
    repo: str,
    *,
    model: str | None = None,
    private: bool = False,
    facts: CardFacts | None = None,
) -> str:
    """Upload a saved model; returns its address.

    Warns before the upload where the files hold features of the labelled images, and after it where a card is
    there that farshot did not write, which is kept.

    Args:
        model: name of the base model on the hub, where it was adapted from a folder: a path means nothing to
            others.
        facts: for the card.

    Raises:
        ModelError: no adapted model, a base that others cannot find, no login, no network.
        DataError: `evaluation` is no such file, or of another model, or was measured with support images.
    """
    name, facts = repository(repo), facts or CardFacts()
    about, tensors = read_folder(folder)
    about["base_model"] = model or _known_elsewhere(about["base_model"], folder)
    files = files_to_upload(home(folder), about["base_model"])
    measured = _read_evaluation(facts.evaluation, about) if facts.evaluation else None
    features = feature_tensors(
        tensors, read_labelled(folder), len(about["support_ids"]), len(about["classes"])
    )
    if features:
        warnings.warn(
            f"parts.safetensors holds features of your labelled images ({', '.join(features)}), which are "
            "uploaded with the model; a method such as linear-probe keeps none.",
            UploadNote,
            stacklevel=2,
        )
    card = model_card(
        about, name, measured, license=facts.license, datasets=facts.datasets, features=features
    )
    files[_CARD] = card.encode()
    message = f"{about['method']} on {len(about['classes'])} classes, by farshot {about['farshot_version']}"
    ours = {} if facts.replace else {_CARD: is_unchanged}
    address, kept = put(name, files, message, private=private, ours=ours)
    if kept:
        warnings.warn(
            f"{name} has a {_CARD} that farshot did not write, or that was edited; it is kept, and may "
            "describe an earlier model. Edit it, or replace it with replace_card=True.",
            UploadNote,
            stacklevel=2,
        )
    return address


def feature_tensors(
    tensors: Mapping[str, Tensor], labelled: Mapping[str, Tensor], images: int, classes: int
) -> list[str]:
    """Names of the tensors of a model with a row that is the features of a labelled image, or nearly.

    Args:
        labelled: what is kept of the labelled images; without it, tensors with a row for each of them that is
            longer than the list of classes.
        images, classes: how many the model was adapted to.
    """
    known = labelled.get("features")
    if known is None:
        return sorted(
            name
            for name, tensor in tensors.items()
            if tensor.dim() == 2 and len(tensor) == images and tensor.shape[1] > classes
        )
    known = F.normalize(known.float(), dim=-1)
    return sorted(
        name
        for name, tensor in tensors.items()
        if tensor.dim() >= 2
        and tensor.shape[-1] == known.shape[1]
        and bool((F.normalize(tensor.float().flatten(0, -2), dim=-1) @ known.T).max() > _SAME)
    )


def files_to_upload(folder: Path, base: str) -> dict[str, bytes]:
    """The folder's files by name, without what is known of the labelled images, which may be private, such as
    the names of their groups; the base model is called what others call it."""
    names = [name for name in FILES if name not in PRIVATE and (folder / name).is_file()]
    files = {name: (folder / name).read_bytes() for name in names}
    for name, key in (("farshot.json", "base_model"), ("adapter_config.json", "base_model_name_or_path")):
        if name in files:
            with damaged(folder / name):
                said = parse_object(files[name]) | {key: base}
                if said.get("support_groups"):
                    said |= {"support_groups": [], "groups_withheld": True}
            files[name] = (as_json(said, indent=2) + "\n").encode()
    return files


def _known_elsewhere(base: str, folder: Path) -> str:
    path = Path(base)
    if base == "mini" or (not path.is_absolute() and not path.exists() and base.count("/") == 1):
        return base
    raise ModelError(
        f"{folder} was adapted from the folder {base}, which others do not have; name its checkpoint on the "
        "hub with model=NAME, such as openai/clip-vit-base-patch16."
    )


def _read_evaluation(path: Path, about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `farshot evaluate --json` printed of this model, on images that it was not adapted to.

    Files of earlier versions say neither; of them the classes alone are compared.
    """
    try:
        found = parse(home(path).read_text(encoding="utf-8"))
        _ = found["data"], found["images"], found["calibration_error"]
        if not all(isinstance(found["accuracy"][name], float) for name in ("value", "low", "high")):
            raise TypeError("no accuracy")
        classes = [one["class"] for one in found.get("classes", [])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what `farshot evaluate ... --json` prints ({error}); write that to a file first."
        ) from error
    other = found.get("model") not in (None, model_id(about))
    if other or classes not in ([], list(map(str, about["classes"]))):
        raise DataError(f"{path} was measured with another model; evaluate the one that is pushed.")
    if found.get("include_support"):
        raise DataError(
            f"{path} was measured on images that the model was adapted to, too, which says nothing about new "
            "ones; evaluate without --include-support."
        )
    return dict(found)
