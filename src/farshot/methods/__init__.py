"""All methods; importing this package registers those that come with farshot."""

from farshot.methods import (  # noqa: F401
    atha,
    bitfit,
    clap,
    clip_adapter,
    clip_lora,
    coop,
    full,
    linear_probe,
    lp_plus_plus,
    maple,
    mind,
    prompt_lora,
    prototypes,
    tip_adapter,
    tip_adapter_f,
    tir,
    transclip,
    vpt,
    zero_shot,
)
from farshot.methods.base import Adapted, Method, available, create, current_settings, register

__all__ = ["Adapted", "Method", "available", "create", "current_settings", "register"]
