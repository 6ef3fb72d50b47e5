"""The device and the precision that are asked for, if this machine has them."""

from __future__ import annotations

import torch

from farshot.errors import SettingError
from farshot.model.formats.files import first_line

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def check_machine(device: str | torch.device, precision: str) -> torch.device:
    """The device meant, if it is there and the precision is known.

    Raises:
        SettingError: names the choices.
    """
    if precision not in PRECISIONS:
        raise SettingError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return check_device(device)


def check_device(device: str | torch.device) -> torch.device:
    """The device meant, if it is there.

    Raises:
        SettingError: says why it is not.
    """
    try:
        place = pick_device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingError(
            f"There is no device {str(device)!r} ({first_line(error)}); use auto or cpu."
        ) from error
    return place


def pick_device(device: str | torch.device) -> torch.device:
    """The device meant; "auto" is a GPU where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
