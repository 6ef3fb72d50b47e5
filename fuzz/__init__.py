"""Fuzzing of all that reads foreign bytes: `make fuzz` (CONTRIBUTING.md)."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a changed name of a model may look like one on the hub
