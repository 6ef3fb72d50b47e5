"""The labelling configuration of a project: which Choices classify which Image."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from farshot.errors import DataError
from farshot.sanitize import short

_MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Control:
    """Choices that classify an image.

    Attributes:
        name: of the Choices.
        image: name of the Image.
        column: of the tasks' data with the image.
        classes: what annotations call each class (its alias, if it has one) -> its name for people, which
        goes
            into prompts.
    """

    name: str
    image: str
    column: str
    classes: dict[str, str]

    def check_knows(self, classes: Iterable[str]) -> None:
        """Refuse a model whose classes the project lacks.

        Raises:
            DataError: names them.
        """
        others = [name for name in classes if name not in self.classes]
        if others:
            raise DataError(
                f"The model has the classes {_listed(others)}, which are no Choices of {short(self.name)} in "
                f"the project ({_listed(self.classes)}); add them to the labelling configuration, or start "
                "with an empty folder."
            )


def control_of(config: str, name: str | None = None) -> Control:
    """Find the Choices of a labelling configuration that classify images.

    Args:
        name: of the Choices; by default there may be one only.

    Raises:
        DataError: there is none, there are several, or they allow several classes.
    """
    root = _parsed(config)
    images = {tag.get("name"): tag.get("value") or "" for tag in root.iter("Image")}
    found = {
        str(tag.get("name")): tag
        for tag in root.iter("Choices")
        if tag.get("toName") in images and (tag.get("perRegion") or "").lower() != "true"
    }
    if name is not None and name not in found:
        raise DataError(
            f"The project has no Choices {short(name)} of an Image (it has {_listed(found) or 'none'}); name "
            "others with --control."
        )
    if not found:
        raise DataError(
            "The labelling configuration has no Choices of an Image; add them: "
            '<Image name="image" value="$image"/><Choices name="choice" toName="image">...'
        )
    if name is None and len(found) > 1:
        raise DataError(
            f"The labelling configuration has several Choices ({_listed(found)}); name one with --control."
        )
    chosen = found[name] if name is not None else next(iter(found.values()))
    called, image = str(chosen.get("name")), str(chosen.get("toName"))
    if (chosen.get("choice") or "single").startswith("multiple"):
        raise DataError(
            f"The Choices {short(called)} allow several classes for a picture; farshot gives one: remove "
            'choice="multiple".'
        )
    if any(len(tag.findall(".//Choice")) for tag in chosen.iter("Choice")):
        raise DataError(
            f"The Choices {short(called)} are nested, which farshot does not read; list all at once."
        )
    column = images[image].removeprefix("$")
    if column == images[image] or not column:
        raise DataError(
            f'The Image {short(image)} has no column of the data as value, such as value="$image".'
        )
    choices = [tag for tag in chosen.iter("Choice") if tag.get("value")]
    return Control(
        called, image, column, {str(c.get("alias") or c.get("value")): str(c.get("value")) for c in choices}
    )


def _parsed(config: str) -> ET.Element:
    # without a document type there are no entities, which could grow without bound or name files
    if len(config) > _MOST_CHARACTERS or "<!" in config.replace("<!--", ""):
        raise DataError(
            "The labelling configuration has a document type or over a million characters, which Label "
            "Studio does not need; remove them."
        )
    try:
        return ET.fromstring(config)
    except (ET.ParseError, ValueError) as error:
        raise DataError(
            f"The labelling configuration is no XML ({error}); correct it in the project."
        ) from error


def _listed(names: Iterable[str], most: int = 6) -> str:
    found = list(names)
    return ", ".join(map(short, found[:most])) + (
        f" and {len(found) - most} more" if len(found) > most else ""
    )
