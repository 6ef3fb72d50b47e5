"""What a method is: settings, and `adapt`, which turns tasks into classifiers.

A method is one file: a docstring with the paper, the idea and the command that runs it; a frozen dataclass of
its settings; `adapt`. One decorator registers it (farshot.methods.registry).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import FarshotError, SettingError
from farshot.methods.values import json_value, literal_settings, read_settings, written
from farshot.model.encoder import Encoder
from farshot.parts.lora import LoRA
from farshot.sanitize import short
from farshot.task import Task
from farshot.training.loop import Progress

Kind = Literal["features", "fine-tuned", "transductive"]


class Adapted(ABC):
    """A classifier for one task.

    Attributes:
        class_names: the N names, in the order of the logits.
        losses: loss of each training step; empty where nothing was trained by steps.
        trained: number of trained parameters.
        lora: its LoRA, where it has one: saved in PEFT's format.
        reading: how its images are read (farshot.images.preprocess).
    """

    class_names: tuple[str, ...]
    losses: Float[NDArray[np.float64], " steps"]
    trained: int = 0
    lora: LoRA | None = None
    reading: str = "squash"

    @abstractmethod
    def logits(
        self,
        table: ImageTable,
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Float[NDArray[np.float32], "rows N"]:
        """Class scores of these rows of a table (all where None); softmax makes them probabilities."""

    def class_directions(self) -> Float[Tensor, "N E"] | None:
        """One direction per class in the joint space, for explanations: class texts, or class means where a
        method has no text; None where it has neither."""
        return None

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors from which `restore` builds this classifier again; those of a LoRA begin with
        `lora.`."""


@dataclasses.dataclass(frozen=True)
class Method(ABC):
    """Settings of a method, validated where they are made, and what it does with tasks.

    Class attributes:
        name: as on the command line.
        kind: "features" looks at frozen features only; "fine-tuned" trains parts; "transductive" sees all
            queries.
        reference: where it was published.
        needs_queries: whether it trains on the images that are to be classified.
        revision: raised when the method's numbers change.
        doc: one line.
        plain: the same for people who do not know the field; empty where `doc` will do.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    reference: ClassVar[str]
    doc: ClassVar[str]
    plain: ClassVar[str] = ""
    needs_queries: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse a word that is not one of a setting's choices."""
        for name, choices in literal_settings(type(self)).items():
            require(
                getattr(self, name) in choices,
                f"The setting {name} of {self.name} must be one of {', '.join(map(written, choices))}, "
                f"not {short(getattr(self, name))}.",
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Method:
        """Create the method from settings by name; values may be text, as from `--set name=value`.

        Raises:
            SettingError: an unknown setting, or a value that does not fit; names the choices.
        """
        return cls(**read_settings(cls, settings))

    @classmethod
    def stored_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Convert settings stored by an earlier version; most methods have nothing to convert."""
        return dict(settings)

    def default_settings(self) -> dict[str, Any]:
        """Return the settings of this method where none is given."""
        return type(self)().settings()

    def check_queries(self, known: bool = False) -> None:
        """Refuse a method that trains on the images that are to be classified, where these are not known."""
        require(
            known or not self.needs_queries,
            f"{self.name} trains on the images that are to be classified, which only `farshot bench` knows "
            "beforehand; choose another method.",
        )

    def support_reading(self, classes: int, shots: int) -> str:
        """How `adapt` reads the images of a task of this size: a reading (farshot.images.preprocess), or
        "model" for that of the encoder's own program."""
        return "squash"

    def for_task(self, encoder: Encoder, task: Task) -> Method:
        """This method with the settings filled in that it would derive from the size of a task, so that parts
        of the task can be adapted to as the whole would be."""
        return self

    @abstractmethod
    def adapt(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        micro_batch: int | None = None,
        progress: Progress | None = None,
    ) -> list[Adapted]:
        """Adapt to all tasks together; returns one classifier per task. The encoder does not change.

        Args:
            tasks: any number; sizes may differ.
            micro_batch: most images forwarded at once while training; bounds memory, changes no result.
        """

    @abstractmethod
    def restore(self, encoder: Encoder, task: Task, tensors: Mapping[str, Tensor]) -> Adapted:
        """The classifier that `Adapted.tensors` came from; the task gives class names and template, no
        images."""

    def parameters(self, encoder: Encoder, task: Task) -> int:
        """Number of parameters trained for a task of this size; 0 by default."""
        return 0

    def settings(self) -> dict[str, Any]:
        """Name and value of every setting, as JSON can hold them."""
        return {name: json_value(value) for name, value in dataclasses.asdict(self).items()}

    def check(self, low: float, *names: str, high: float = math.inf, under: float = math.inf) -> None:
        """Refuse settings outside [low, high], or [low, under); None is allowed."""
        bounds = f"be at least {low:g}"
        if high < math.inf:
            bounds = f"lie in {low:g} to {high:g}"
        if under < math.inf:
            bounds = f"lie in [{low:g}, {under:g})"
        for name in names:
            value = getattr(self, name)
            fits = value is None or (low <= value <= high and value < under)
            require(fits, f"The setting {name} of {self.name} must {bounds}, not {short(value)}.")


def require(condition: bool, message: str) -> None:
    """Refuses a setting with one sentence."""
    if not condition:
        raise SettingError(message)


def finite(scores: Float[NDArray[np.float32], "B N"]) -> Float[NDArray[np.float32], "B N"]:
    """The same scores.

    Raises:
        FarshotError: one is not finite, with which every image would be of the first class.
    """
    if np.isfinite(scores).all():
        return scores
    raise FarshotError(
        "The scores of these images are not finite, so they have no class; adapt again with lower learning "
        "rates, another scale, or float32."
    )


def count_parameters(*tensors: Tensor) -> int:
    """Number of elements per task of parameters with a leading task dimension."""
    return sum(tensor[0].numel() for tensor in tensors)


def alike(tasks: Sequence[Task], key: Callable[[Task], Hashable]) -> list[list[int]]:
    """Numbers of the tasks that have the same key and can be adapted in one batch; most often that is one."""
    found: dict[Hashable, list[int]] = {}
    for number, task in enumerate(tasks):
        found.setdefault(key(task), []).append(number)
    return list(found.values())


def row_batches(count: int, size: int) -> list[slice]:
    """Slices that cover `count` rows."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def softmax(logits: Float[NDArray[np.float32], "rows N"]) -> Float[NDArray[np.float32], "rows N"]:
    """Probabilities of logits, in float32."""
    return torch.from_numpy(logits).softmax(-1).numpy()
