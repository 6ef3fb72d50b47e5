"""One process that fuzzes one target, guided by coverage (atheris, which is libFuzzer for Python).

    python -m fuzz.session TARGET --seconds 60 --work DIR
    python -m fuzz.session TARGET --smaller FILE

The first writes what it found to DIR/found; the second prints a shorter input with the same outcome.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import atheris

from fuzz.judge import judge, judge_apart, limit, smaller
from fuzz.mutate import change_json

_MOST_BYTES = 16_384
_HANG_S = 25  # of wall time; judge.py measures processor time
_SMALLER_S = 60.0


def main() -> None:
    """Fuzz, or make an input smaller."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--smaller", type=Path)
    chosen = parser.parse_args()
    if chosen.smaller:
        from fuzz.targets import TARGETS

        _make_smaller(TARGETS[chosen.target].run, chosen.smaller)
        return
    pictures = ["PIL"] if chosen.target in ("images", "zips") else []
    with atheris.instrument_imports(include=["farshot", *pictures]):
        from fuzz.targets import TARGETS
    target = TARGETS[chosen.target]
    target.run(target.seeds()[0])  # imports and loads what it needs, before memory is bounded
    Session(target.run, target.seeds(), chosen.work, chosen.seconds).start()


class Session:
    """Executions of a target until its time is over; what libFuzzer itself must end is in DIR/ended."""

    def __init__(self, run: object, seeds: list[bytes], work: Path, seconds: float) -> None:
        self.run, self.work, self.seconds = run, work, seconds
        self.count, self.said, self.began = 0, 0.0, time.monotonic()
        for name in ("corpus", "found", "ended"):
            (work / name).mkdir(parents=True, exist_ok=True)
        self.known = {path.stem for path in (work / "found").glob("*.txt")}
        for seed in seeds:
            (work / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def start(self) -> None:
        """Does not return."""
        limit(self.seconds)
        options = [
            f"-max_total_time={max(1, int(self.seconds))}",
            f"-timeout={_HANG_S}",
            "-rss_limit_mb=0",
            f"-max_len={_MOST_BYTES}",
            f"-artifact_prefix={self.work / 'ended'}/",
            "-verbosity=0",
        ]
        atheris.Setup(
            [sys.argv[0], *options, str(self.work / "corpus")], self.one, custom_mutator=self.mutate
        )
        atheris.Fuzz()

    def one(self, data: bytes) -> None:
        """One execution."""
        if not data:
            return
        self.count += 1
        outcome = judge(self.run, data)  # type: ignore[arg-type]
        if outcome.failed:
            name = hashlib.sha256(outcome.key.encode()).hexdigest()[:12]
            if name not in self.known:
                self.known.add(name)
                (self.work / "found" / f"{name}.bin").write_bytes(data)
                text = f"{outcome.key}\n{outcome.text}\n"
                (self.work / "found" / f"{name}.txt").write_text(text, errors="replace")
        if time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            facts = {"executions": self.count, "seconds": self.said - self.began}
            (self.work / "stats.json").write_text(json.dumps(facts))

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        """Half of the changes keep the structure of JSON, the others are libFuzzer's."""
        if seed % 2 and (changed := change_json(data[1:], seed)) is not None and len(changed) < most:
            return data[:1] + changed
        return bytes(atheris.Mutate(data, most))


def _make_smaller(run: object, file: Path) -> None:
    data = file.read_bytes()
    outcome = judge_apart(run, data)  # type: ignore[arg-type]
    if outcome.failed:
        data = smaller(run, data, outcome.key, _SMALLER_S)  # type: ignore[arg-type]
        file.with_suffix(".small").write_bytes(data)
    print(json.dumps({"key": outcome.key, "bytes": len(data), "text": outcome.text}))


if __name__ == "__main__":
    main()
