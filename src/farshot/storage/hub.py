"""The Hugging Face hub: its files, and adapted models, written `hf:OWNER/NAME`."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from farshot.errors import ModelError

PREFIX = "hf:"
Progress = Callable[[int, int], None]
"""(bytes that have arrived, bytes in all); raising from it stops the download."""

_SPARE = 200_000_000  # bytes that a download leaves free on the disk
_watcher: ContextVar[Progress | None] = ContextVar("_watcher", default=None)


def is_on_hub(name: str | Path) -> bool:
    """Whether a name means the hub."""
    return str(name).startswith(PREFIX)


def repository(name: str | Path) -> str:
    """OWNER/NAME of "hf:OWNER/NAME" or "OWNER/NAME".

    Raises:
        ModelError: neither.
    """
    repo = str(name).removeprefix(PREFIX)
    if repo.count("/") != 1 or not all(repo.split("/")) or repo.startswith((".", "~")):
        raise ModelError(f"{name} is no name on the hub; it is OWNER/NAME, such as ada/leaves.")
    return repo


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Report the progress of every download of this thread while the context lasts."""
    before = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(before)


def download(repo: str, files: Sequence[str], *, absent: str, unreachable: str, cached: bool = False) -> Path:
    """Return a local folder with these files of a repository; cached files need no network.

    Args:
        files: names or patterns.
        cached: take what is in the cache and do not ask the network.

    Raises:
        ModelError: it asks for a login, or the disk is full; or, in the caller's words, it is `absent` or
            `unreachable`.
    """
    from huggingface_hub import errors, snapshot_download  # slow to import, and local models do not need it

    progress = _watcher.get()
    try:
        if cached:
            return Path(snapshot_download(repo, allow_patterns=list(files), local_files_only=True))
        if progress is not None:
            return _download_watched(repo, files, progress)
        return Path(snapshot_download(repo, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        raise ModelError(_login(repo)) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(absent) from error
    except (OSError, client_error()) as error:
        if _status(error) in (401, 403):
            raise ModelError(_login(repo)) from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise ModelError(f"The disk is full, so {repo} cannot be stored; free some space.") from error
        raise ModelError(unreachable) from error


def is_cached(repo: str, files: Sequence[str]) -> bool:
    """Whether one of these files of a repository is in the hub's cache, whole."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repo, file), str) for file in files)


def _download_watched(repo: str, files: Sequence[str], progress: Progress) -> Path:
    """Bring what is missing of these files into the cache, and report how far it is; returns their folder.

    A connection that breaks off is taken up where it broke. A file that was stopped begins again; files that
    have arrived stay.

    Raises:
        ModelError: the disk has too little space; nothing was downloaded.
    """
    from huggingface_hub import errors, hf_hub_download, snapshot_download
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        """Shows nothing."""

        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__(disable=True)

    patterns = list(files)
    try:
        plan = snapshot_download(repo, allow_patterns=patterns, dry_run=True, tqdm_class=Silent)
    except errors.DryRunError:  # without a network; what is cached may do
        plan = []
    missing = [one for one in plan if one.will_download]
    total, done = sum(one.file_size or 0 for one in missing), 0
    if total:
        _check_space(repo, total)

    class Bar(Silent):
        """The hub's client tells it what has arrived."""

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            done += int(n or 0)
            progress(min(done, total), total)

    for one in missing:
        progress(min(done, total), total)
        hf_hub_download(repo, one.filename, revision=one.commit_hash, tqdm_class=Bar)
    return Path(snapshot_download(repo, allow_patterns=patterns, tqdm_class=Silent))


def _check_space(repo: str, size: int) -> None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    there = next(one for one in (place, *place.parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    if free < size + _SPARE:
        raise ModelError(
            f"{repo} takes {size / 1e6:,.0f} MB and the disk of {place} has {free / 1e6:,.0f} MB free; free "
            "some space, or name another disk with HF_HOME."
        )


def _login(repo: str) -> str:
    return f"{repo} asks for a login: accept its terms on the hub, then run `hf auth login`."


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, if there is one."""
    while error is not None:
        found = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(found, int):
            return found
        error = error.__cause__
    return None


def fetch(name: str | Path, files: Sequence[str]) -> Path:
    """A local folder with an adapted model's files.

    Raises:
        ModelError: no such repository, or no way to it.
    """
    repo = repository(name)
    return download(
        repo,
        files,
        absent=f"The hub has no model {repo}, or not for you; check the spelling, or `hf auth login`.",
        unreachable=f"{repo} is not in the local cache and the hub cannot be reached; connect once to "
        "download it.",
    )


def put(
    name: str | Path,
    files: Mapping[str, bytes],
    message: str,
    *,
    private: bool = False,
    ours: Mapping[str, Callable[[bytes], bool]] | None = None,
) -> tuple[str, list[str]]:
    """Upload files to a repository in one commit, all or none; the repository is created if needed.

    Args:
        ours: for some of the files, whether what is there already may be replaced.

    Returns:
        Where they are, and the names of the files that are kept as they were there.

    Raises:
        ModelError: no login, no right to write, no network, or a repository that is there and public although
            it should be private.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    repo = repository(name)
    try:
        api = HfApi()
        url = api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.repo_info(repo).private:  # it was there
            raise ModelError(
                f"{repo} is on the hub already, and public; make it private there, choose another name, or "
                "leave out private (--private)."
            )
        kept = [
            path
            for path, may_go in (ours or {}).items()
            if api.file_exists(repo, path) and not may_go(Path(api.hf_hub_download(repo, path)).read_bytes())
        ]
        new = {path: content for path, content in sorted(files.items()) if path not in kept}
        operations = [CommitOperationAdd(path, content) for path, content in new.items()]
        api.create_commit(repo, operations, commit_message=message)
    except errors.LocalTokenNotFoundError as error:
        raise ModelError(f"To push to {repo}, log in first: hf auth login.") from error
    except errors.HFValidationError as error:
        raise ModelError(f"{name} is no name on the hub; it is OWNER/NAME, such as ada/leaves.") from error
    except (errors.OfflineModeIsEnabled, errors.HfHubHTTPError, client_error(), OSError) as error:
        if _status(error) in (401, 403):
            raise ModelError(
                f"The hub does not let you write to {repo}; `hf auth login` with a token that may write, or "
                "choose another name."
            ) from error
        raise ModelError(
            f"The hub cannot be reached ({_first_line(error)}); nothing was pushed to {repo}, try again with "
            "a network."
        ) from error
    return str(url), kept


def client_error() -> type[Exception]:
    """The error that the hub's HTTP client raises without a network; the client depends on the version."""
    from huggingface_hub.utils import get_session

    client = type(get_session()).__module__.partition(".")[0]
    return import_module(client).HTTPError


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
