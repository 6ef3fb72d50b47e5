"""All methods; importing this package registers those that come with farshot."""

from farshot.methods import atha, clip_lora, prompt_lora, zero_shot  # noqa: F401
from farshot.methods.base import Adapted, Method, available, create, register

__all__ = ["Adapted", "Method", "available", "create", "register"]
