"""The conda-forge recipe for a source distribution.

    python -m tools.conda_recipe dist/farshot-0.1.0.tar.gz build/recipe.yaml

writes packaging/conda/recipe.yaml with the checksum of the archive.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "packaging/conda/recipe.yaml"


def recipe(archive: bytes) -> str:
    """The recipe that builds a source distribution, given as its bytes."""
    return TEMPLATE.read_text(encoding="utf-8").replace("SHA256", hashlib.sha256(archive).hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the conda-forge recipe of a source distribution.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(recipe(given.archive.read_bytes()), encoding="utf-8")


if __name__ == "__main__":
    main()
