"""The first sentences of the report of an adapted model: what it was made of, how often it will be right, and
whether that is more than without labelled pictures.

The numbers of farshot.json are not trusted: a measurement with a value that is no number counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeGuard

from markupsafe import Markup

from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import Evaluation, Unadapted
from farshot.explain.html import bdi, points
from farshot.sanitize import plain
from farshot.storage.paths import base_name

ZERO_SHOT = "zero-shot"
_SAME = 5e-4  # shares that look equal in per cent


@dataclass(frozen=True)
class Quality:
    """What a summary needs of a measurement; shares in [0, 1].

    Attributes:
        accuracy: share of right answers.
        majority: the share of always answering `majority_class`; None where it is not known.
        chance: the share of choosing a class at random.
        images: measured on.
        cross_validated: on the images that it was adapted to, each left out in turn.
        zero_shot: the base model on the same images; None where it was not measured.
    """

    accuracy: Interval
    majority: float | None
    majority_class: str
    chance: float
    images: int
    cross_validated: bool
    zero_shot: Unadapted | None

    @classmethod
    def measured(cls, found: Evaluation) -> Quality:
        """From an evaluation on other images."""
        images = int(found.confusion.sum())
        majority_class, chance = str(found.majority_class), found.chance
        return cls(found.accuracy, found.majority, majority_class, chance, images, False, found.zero_shot)

    @classmethod
    def estimated(cls, about: Mapping[str, Any]) -> Quality | None:
        """From the cross-validated estimate of a farshot.json; None where there is none."""
        found = about.get("estimate")
        accuracy = _interval(found.get("accuracy")) if isinstance(found, dict) else None
        if not isinstance(found, dict) or accuracy is None:
            return None
        most = found.get("majority")
        most = most if isinstance(most, dict) else {}
        share, versus = most.get("accuracy"), found.get("zero_shot")
        zero_shot = None
        if isinstance(versus, dict):
            alone, difference = _interval(versus.get("accuracy")), _interval(versus.get("difference"))
            zero_shot = None if alone is None or difference is None else Unadapted(alone, difference)
        return cls(
            accuracy,
            float(share) if _is_number(share) else None,
            str(most.get("class", "")),
            1 / max(1, len(about["classes"])),
            len(about["support_ids"]),
            True,
            zero_shot,
        )

    @property
    def baseline(self) -> float:
        """The share that needs no picture to be looked at: the most frequent class, or chance."""
        return max(self.chance, self.majority or 0.0)


def sentences(about: Mapping[str, Any], method: str, quality: Quality | None) -> list[Markup]:
    """The summary, each sentence by itself; names are escaped.

    Args:
        about: farshot.json.
        method: with the settings that are not its defaults.
    """
    pictures, classes = _count(len(about["support_ids"]), "labelled picture"), len(about["classes"])
    on = f" on {day(about['adapted_on'])}" if about.get("adapted_on") else ""
    said = [
        Markup("This model tells {} apart. It was adapted{} from {} to {} with {}.").format(
            _count(classes, "class", "es"),
            on,
            bdi(plain(base_name(about["base_model"]))),
            pictures,
            bdi(plain(method)),
        )
    ]
    if quality is None:
        said.append(
            Markup(
                "How often it is right was not measured: <code>farshot adapt --estimate</code> estimates it, "
                "<code>farshot report --data</code> measures it on other labelled pictures."
            )
        )
        return said
    return [*said, *_measured(quality, about["method"])]


def day(iso: str) -> str:
    """ "2026-05-17" as 17 May 2026."""
    found = date.fromisoformat(iso)
    return f"{found.day} {found:%B} {found.year}"


def _measured(quality: Quality, method: str) -> list[Markup]:
    accuracy, how = quality.accuracy, "cross-validated on the pictures it was adapted to"
    if not quality.cross_validated:
        how = f"measured on {_count(quality.images, 'picture')} it was not adapted to"
    said = [
        Markup("Of new pictures like these, expect <b>{} %</b> to be classified right ({}; {}).").format(
            points(accuracy.mean), _range(accuracy), how
        )
    ]
    without: str = "choosing a class by chance"
    if quality.majority is not None and quality.majority > quality.chance + _SAME:
        without = Markup("always answering {}").format(bdi(plain(quality.majority_class)))
    told = "That cannot be told apart from {}, which is right in {} %."
    if accuracy.low > quality.baseline:
        told = "That is clearly better than {}, which is right in {} %."
    elif accuracy.high < quality.baseline:
        told = "That is clearly worse than {}, which is right in {} %."
    said.append(Markup(told).format(without, points(quality.baseline)))
    if method == ZERO_SHOT:
        said.append(Markup("It is the base model without adaptation: the labelled pictures changed nothing."))
    elif quality.zero_shot is not None:
        said.append(_against(quality.zero_shot))
    return said


def _against(found: Unadapted) -> Markup:
    alone = Markup("is right in {} % of the same pictures").format(points(found.accuracy.mean))
    d = found.difference
    apart = f"{_signed(d.mean)} points, 95 % interval {_signed(d.low)} to {_signed(d.high)}"
    if d.low > 0:
        told = "The base model without adaptation (zero-shot) {}: adaptation made it clearly better ({})."
    elif d.high < 0:
        told = "The base model without adaptation (zero-shot) {}: adaptation made it clearly worse ({})."
    else:
        told = (
            "The base model without adaptation (zero-shot) {}: whether adaptation made it better cannot be "
            "told from these pictures ({})."
        )
    return Markup(told).format(alone, apart)


def _range(found: Interval) -> str:
    return f"95 % interval {points(found.low)} to {points(found.high)}"


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("-0.0", "+0.0") else text.replace("-", "−")


def _interval(found: Any) -> Interval | None:
    """An interval of farshot.json; None for what is not one."""
    if not isinstance(found, dict):
        return None
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    if not (_is_number(value) and _is_number(low) and _is_number(high)):
        return None
    return Interval(float(value), float(low), float(high), math.nan, 0)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(number: int, thing: str, plural: str = "s") -> str:
    return f"{number} {thing}{plural * (number != 1)}"
