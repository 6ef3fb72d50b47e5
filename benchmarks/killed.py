"""Every command that writes, killed at every system call that changes the disk, then run again undisturbed.

The calls are found by strace in a run that is not disturbed, and the process is killed by strace as it enters
one of them (`--inject`). A server process has imported what the commands need; each run is a fork of it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.calls import CHANGING, Call, of_each_kind, spread
from benchmarks.disk_state import State, Verdict, after_kill, after_rerun, everything_in, listing, state_of
from benchmarks.kept_exports import keep_exports
from benchmarks.kept_features import keep_features, load_features, save_features
from benchmarks.writing_commands import ADAPT, BENCH, Command

WATCHED = ("out", "cache", "tmp", "home")
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_WRITING = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)")
_PATIENCE_S = 180.0
_TRIES = 5


class Unusable(Exception):
    """A command that fails undisturbed, does not end, or writes something else each time."""


@dataclass
class Ran:
    """A run: its exit code, negative for a signal; what it printed; its calls."""

    code: int
    said: str
    calls: list[Call] = field(default_factory=list)


@dataclass
class Row:
    """One line of the table.

    Attributes:
        calls: that change a watched place, with nothing there before and with an older output.
        kills, signals: that came.
        elsewhere: kills that came at another call than was meant, since a run differed from the one before.
    """

    calls: int = 0
    kills: int = 0
    signals: int = 0
    elsewhere: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.counts.values())

    def add(self, verdict: Verdict, where: str) -> None:
        """Count and print what went wrong at a point."""
        for kind, note in verdict:
            self.counts[kind] += 1
            print(f"  {kind} after {where}: {note}", file=sys.stderr, flush=True)


class Killer:
    """Runs commands in forks of this process, in one watched folder.

    Args:
        folder: empty; the watched folder, the inputs and the traces go there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.watched = folder, folder / "w"
        self.inputs = folder / "in"
        self.words = {"out": self.watched / "out"}
        self.small: Mapping[str, int] = {}  # constants of the demo

    def prepare(self, commands: Iterable[Command]) -> None:
        """Make the inputs of the commands, and import what these need, so that forks start fast."""
        from tests.input_helpers import class_folders

        written = " ".join(f"{command.words} {command.before}" for command in commands)
        names = ("data", "more", "most")
        for start, name in enumerate(names):
            class_folders(self.inputs / name, images=4, start=1000 * start)
        class_folders(self.inputs / "crowd", images=8, start=5000)  # enough for a student
        for name in (*names, "crowd", "model", "model2", "lora", "lora2", "store", "store2"):
            self.words[name] = self.inputs / (f"{name}.db" if name.startswith("store") else name)
        for name, data, method in (
            *(("model", "data", "linear-probe"), ("model2", "more", "linear-probe")),
            *(("lora", "data", "clip-lora --set steps=1"), ("lora2", "more", "clip-lora --set steps=1")),
        ):
            if f"{{{name}}}" in written:
                words = f"{ADAPT} {method}".replace("{data}", f"{{{data}}}")
                self._made(words.replace("{out}/m", f"{{{name}}}"))
        for name, methods in (("store", "zero-shot linear-probe"), ("store2", "zero-shot")):
            if f"{{{name}}}" in written:
                self._made(BENCH.format(methods=methods) + f" --store {{{name}}}")

    def import_for(self, words: str) -> None:
        """Import what a command imports, and learn the embeddings that it computes."""
        listed = self.folder / "modules"
        self.reset(None)
        self.run(words, modules=listed)
        if (features := self.folder / "features").exists():
            load_features(features)
        for name in listed.read_text().split() if listed.exists() else []:
            if name not in sys.modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)

    def _made(self, words: str) -> None:
        self.import_for(words)
        self.reset(None)
        ran = self.run(words)
        if ran.code:
            raise Unusable(f"{words} failed with {ran.code}: {ran.said}")

    def reset(self, start: Path | None) -> None:
        """Put the watched folder into its state before."""
        shutil.rmtree(self.watched, ignore_errors=True)
        if start is None:
            for name in WATCHED:
                (self.watched / name).mkdir(parents=True)
        else:
            shutil.copytree(start, self.watched)

    def run(
        self,
        words: str,
        *,
        traced: bool = False,
        inject: tuple[Call, str] | None = None,
        modules: Path | None = None,
    ) -> Ran:
        """Run a command line in a fork.

        Args:
            traced: record its calls.
            inject: the call at which a signal comes, and that signal's name.
            modules: a file for the names of all that it imported.
        """
        log, trace = self.folder / "log", self.folder / "trace"
        arguments = [word.format(**self.words) for word in words.split()]
        ready, its = os.pipe()
        child = os.fork()
        if child == 0:
            if not (traced or inject):
                os.close(its)
            self._become(arguments, log, its if traced or inject is not None else None, modules)
        os.close(its)
        os.read(ready, 1)
        os.close(ready)
        tracer = self._trace(child, trace, inject) if traced or inject else None
        code = self._wait(child)
        if tracer is not None:
            tracer.wait(_PATIENCE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it may have started
        calls = self._calls(trace) if tracer is not None else []
        return Ran(code, log.read_text(errors="replace") if log.exists() else "", calls)

    def _become(self, arguments: list[str], log: Path, ready: int | None, modules: Path | None) -> None:
        """The child: never returns. It says on `ready` that it waits for strace, which counts its calls."""
        code = 70
        try:
            os.setsid()
            _to_file(log)
            here = self.folder / "here"
            here.mkdir(exist_ok=True)
            os.chdir(here)
            os.environ |= {
                "HOME": str(self.watched / "home"),
                "XDG_CACHE_HOME": str(self.watched / "home" / ".cache"),
                "FARSHOT_CACHE": str(self.watched / "cache"),
                "TMPDIR": str(self.watched / "tmp"),
                "MPLCONFIGDIR": str(self.folder / "matplotlib"),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            sys.dont_write_bytecode = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from farshot.cli.root import main

            if ready is not None:
                status = os.open("/proc/self/status", os.O_RDONLY)
                os.close(ready)
                while b"TracerPid:\t0" in os.pread(status, 4096, 0):
                    time.sleep(0.002)
            sys.argv = ["farshot", *arguments]
            if arguments[0] == "export":
                keep_exports(self.folder, " ".join(arguments))
            if arguments[0] == "demo":
                keep_features()
                _change(self.small)
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            atexit._run_exitfuncs()
            if modules is not None:
                modules.write_text("\n".join(sorted(sys.modules)))
                save_features(self.folder / "features")
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _trace(self, child: int, trace: Path, inject: tuple[Call, str] | None) -> subprocess.Popen[bytes]:
        calls = ",".join(f"?{name}" for name in CHANGING)
        command = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", f"trace={calls}", "-o", str(trace)]
        if inject is not None:
            call, name = inject
            command += ["-e", f"inject={call.name}:signal={name}:when={call.number}"]
        trace.unlink(missing_ok=True)
        return subprocess.Popen([*command, "-p", str(child)], stderr=subprocess.DEVNULL)

    def _wait(self, child: int) -> int:
        until = time.monotonic() + _PATIENCE_S
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                raise Unusable(f"a run took over {_PATIENCE_S:.0f} s")
            time.sleep(0.01)

    def _calls(self, trace: Path) -> list[Call]:
        """The calls that change a watched place, each with its number in its thread."""
        numbers: Counter[tuple[str, str]] = Counter()
        found = []
        marks = (f'"{self.watched}', f"<{self.watched}")
        for line in trace.read_text(errors="replace").splitlines() if trace.exists() else []:
            match = _CALL.match(line)
            if match is None:
                continue
            thread, name, text = match.groups()
            numbers[thread, name] += 1
            opened = name in ("open", "openat") and not _WRITING.search(text)
            if not opened and any(mark in text for mark in marks):
                found.append(Call(name, numbers[thread, name], text))
        return found


def _change(constants: Mapping[str, int]) -> None:
    from farshot.cli import demo

    for name, value in constants.items():
        assert isinstance(getattr(demo, name), int)
        setattr(demo, name, value)


def _to_file(log: Path) -> None:
    """The standard streams of this process."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for stream in (1, 2):
        os.dup2(number, stream)


def kill_everywhere(
    killer: Killer,
    command: Command,
    most: int,
    signals: int,
    each: int | None = None,
    share: tuple[int, int] = (1, 1),
) -> Row:
    """Kill a command at its calls, with its output new and with one there before.

    Args:
        most: kills with each state before; evenly spread over the calls where there are more.
        signals: of each of SIGTERM, SIGHUP and SIGINT.
        each: kills at calls of one kind, evenly spread over these; all without.
        share: (1, 2) and (2, 2) are the halves of all kills and signals.
    """
    row = Row()
    killer.small = command.small
    killer.import_for(command.words)
    for start in _starts(killer, command):
        before = _state(killer, command, start)
        after, ran = _undisturbed(killer, command, start)
        files = listing(killer.watched)
        row.calls += len(ran.calls)
        chosen = ran.calls if each is None else of_each_kind(ran.calls, each)
        plan = [(call, "SIGKILL") for call in spread(chosen, most)]
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            plan += [(call, name) for call in spread(ran.calls, signals)]
        seen: dict[frozenset[tuple[str, str]], Verdict] = {}
        for call, name in plan[share[0] - 1 :: share[1]]:
            one, hit = _stopped(killer, command, start, call, name)
            killed = name == "SIGKILL"
            row.kills += one.code == -signal.SIGKILL
            row.elsewhere += killed and not hit
            row.signals += not killed
            where = f"{name} at {call.name} {call.number} ({call.text[-90:]}), exit code {one.code}"
            found = after_kill(
                killer.watched, before, after, command.grows, killed=killed, rounded=command.rounded
            )
            row.add(found, where)
            if name != "SIGKILL" and "Traceback" in one.said:
                row.add([("lost", f"a traceback: {one.said[-300:]}")], where)
            known = everything_in(killer.watched)
            if known not in seen:  # what a run makes of a state does not depend on how that came about
                again = killer.run(command.words)
                seen[known] = after_rerun(
                    killer.watched, after, files, again.code, again.said, rounded=command.rounded
                )
            row.add(seen[known], where)
    return row


def _stopped(killer: Killer, command: Command, start: Path | None, call: Call, name: str) -> tuple[Ran, bool]:
    """A run with a signal, and whether a kill came at the call that was meant; else it is tried again."""
    for _ in range(_TRIES):
        killer.reset(start)
        ran = killer.run(command.words, inject=(call, name))
        hit = bool(ran.calls) and ran.calls[-1].like(call)
        if hit or name != "SIGKILL":
            break
    return ran, hit


def _starts(killer: Killer, command: Command) -> Iterator[Path | None]:
    """States before: nothing there, and what another run wrote."""
    yield None
    if command.before is not None:
        killer.reset(None)
        ran = killer.run(command.before)
        if ran.code:
            raise Unusable(f"{command.before} failed: {ran.said}")
        start = killer.folder / "start"
        shutil.rmtree(start, ignore_errors=True)
        shutil.rmtree(killer.watched / "cache")
        (killer.watched / "cache").mkdir()
        shutil.copytree(killer.watched, start)
        yield start


def _state(killer: Killer, command: Command, start: Path | None) -> State:
    killer.reset(start)
    return state_of(killer.watched / "out", rounded=command.rounded)


def _undisturbed(killer: Killer, command: Command, start: Path | None) -> tuple[State, Ran]:
    """What a run that is not disturbed leaves, which must be the same twice; and its calls."""
    states = []
    for _ in range(2):
        killer.reset(start)
        ran = killer.run(command.words, traced=True)
        if ran.code:
            raise Unusable(f"{command.words} failed: {ran.said}")
        states.append(state_of(killer.watched / "out", rounded=command.rounded))
    if states[0] != states[1]:
        differing = [name for name in states[0] if states[0][name] != states[1].get(name)]
        raise Unusable(f"{command.words} does not write the same twice: {differing[:3]}")
    return states[0], ran
