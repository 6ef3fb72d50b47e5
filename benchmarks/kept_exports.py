"""torch.onnx.export, which takes nearly all of an export's time and writes nothing, done once for a command.

What it returned is kept and handed out again in later runs of the same command line, whose files are written
as in the first.
"""

from __future__ import annotations

import hashlib
from itertools import count
from pathlib import Path
from typing import Any


def keep_exports(folder: Path, words: str) -> None:
    """Replace torch.onnx.export in this process.

    Args:
        folder: for what it returned; another than those that are watched.
        words: the command line, which settles what is exported, and in which order.
    """
    import onnx_ir
    import torch.onnx

    export, numbers = torch.onnx.export, count()
    name = hashlib.sha256(words.encode()).hexdigest()[:16]

    def kept(*arguments: Any, **options: Any) -> Any:
        file = folder / f"{name}-{next(numbers)}.onnx"
        if not file.exists():
            program = export(*arguments, **options)
            program.save(file, external_data=False)
        return torch.onnx.ONNXProgram(onnx_ir.load(file), None)

    torch.onnx.export = kept
