"""Options that the commands of this folder share."""

from __future__ import annotations

import argparse

from benchmarks.speed.models import CONFIGS, PRECISIONS


def described(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring, with the device."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    return parser


def add_cases(parser: argparse.ArgumentParser, shots: list[int]) -> None:
    """Models, shots, and tasks side by side: a row of the table for each."""
    parser.add_argument("--models", nargs="+", default=["ViT-B/16"], choices=list(CONFIGS))
    parser.add_argument("--shots", nargs="+", type=int, default=shots)
    parser.add_argument("--tasks", nargs="+", type=int, default=[1, 4])


def add_recipe(parser: argparse.ArgumentParser, views: str) -> None:
    """What is adapted, and in which precision."""
    parser.add_argument("--method", default="atha")
    parser.add_argument("--views", default=views)
    parser.add_argument("--precision", default="bf16", choices=list(PRECISIONS))
