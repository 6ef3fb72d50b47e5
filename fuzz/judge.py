"""What a target did with an input: read it, refused it in one sentence, or failed."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farshot.errors import FarshotError

MOST_SECONDS = 5.0
MOST_GROWTH = 500 << 20
"""Of the memory, in bytes, while one input is read."""

PATIENCE_S = 30.0  # for one input in a process that is not alone on the machine
_PAGE = resource.getpagesize()
_MAXRSS_UNIT = 1024

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        key: "read", "refused", or what failed and where; equal for inputs that show the same fault.
        text: the sentence of the refusal, or the traceback.
    """

    key: str
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether this is a finding."""
        return self.key not in ("read", "refused")


def judge(run: Run, data: bytes) -> Outcome:
    """Run a target on an input in this process."""
    began, size, peak = time.process_time(), _size(), _peak()
    try:
        run(data)
        found = Outcome("read")
    except FarshotError as error:
        found = _sentence(error)
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        found = Outcome(f"{type(error).__name__} at {_place(error)}", _trace(error))
    seconds, new_peak = time.process_time() - began, _peak()
    if not found.failed and seconds > MOST_SECONDS:
        return Outcome("slow", f"{seconds:.1f} s of processor time")
    if not found.failed and new_peak > peak and new_peak - size > MOST_GROWTH:
        return Outcome("memory", f"grew by {(new_peak - size) >> 20} MB")
    return found


def judge_apart(run: Run, data: bytes) -> Outcome:
    """The same in a child process, whose crash or hang is an outcome, too."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            found = judge(run, data)
            os.write(its, f"{found.key}\n{found.text}".encode(errors="replace")[:60_000])
        finally:
            os._exit(0)
    os.close(its)
    said, until = b"", time.monotonic() + PATIENCE_S
    with os.fdopen(ours, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            piece = pipe.read(65536)
            if not piece:
                break
            said += piece
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome("hang", f"nothing after {PATIENCE_S:.0f} s")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return Outcome(f"crash by {signal.Signals(os.WTERMSIG(status)).name}")
    key, _, text = said.decode(errors="replace").partition("\n")
    return Outcome(key or "crash without a word", text)


def smaller(run: Run, data: bytes, key: str, seconds: float) -> bytes:
    """The shortest input with the same outcome that removing pieces finds in this time."""
    until, step = time.monotonic() + seconds, max(1, len(data) // 2)
    while step and time.monotonic() < until:
        place, removed = 0, False
        while place < len(data) and time.monotonic() < until:
            shorter = data[:place] + data[place + step :]
            if shorter and judge_apart(run, shorter).key == key:
                data, removed = shorter, True
            else:
                place += step
        step = step if removed and step > 1 else step // 2
    return data


def limit(seconds: float) -> None:
    """Bound this process: memory, processor time, files and their sizes."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    for which, most in (
        (resource.RLIMIT_AS, virtual + (4 << 30)),
        (resource.RLIMIT_CPU, int(2 * seconds) + 120),
        (resource.RLIMIT_FSIZE, 256 << 20),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (most, most))


def _sentence(error: FarshotError) -> Outcome:
    text = str(error)
    if text.endswith((".", ".)")) and "\n" not in text and "Traceback" not in text and len(text) < 2000:
        return Outcome("refused", text)
    return Outcome(f"no sentence at {_place(error)}", f"{text[:2000]!r}\n{_trace(error)}")


def _place(error: BaseException) -> str:
    """The innermost line of farshot that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "farshot" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.name}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-6000:]


def _size() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
