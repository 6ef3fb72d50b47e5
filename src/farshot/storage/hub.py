"""The Hugging Face hub: its files, and adapted models, written `hf:OWNER/NAME`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from farshot.errors import ModelError

PREFIX = "hf:"


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


def download(repo: str, files: Sequence[str], *, absent: str, unreachable: str) -> Path:
    """Return a local folder with these files of a repository; cached files need no network.

    Args:
        files: names or patterns.

    Raises:
        ModelError: it asks for a login; or, in the caller's words, it is `absent` or `unreachable`.
    """
    from huggingface_hub import errors, snapshot_download  # slow to import, and local models do not need it

    try:
        return Path(snapshot_download(repo, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} asks for a login: accept its terms on the hub, then run `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(absent) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError) as error:
        raise ModelError(unreachable) from error
    except OSError as error:
        raise ModelError(unreachable) from error


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
        ModelError: no login, no right to write, or no network.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    repo = repository(name)
    try:
        api = HfApi()
        url = api.create_repo(repo, private=private, exist_ok=True)
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
    except (errors.OfflineModeIsEnabled, errors.HfHubHTTPError, _client_error(), OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise ModelError(
                f"The hub does not let you write to {repo}; `hf auth login` with a token that may write, or "
                "choose another name."
            ) from error
        raise ModelError(
            f"The hub cannot be reached ({_first_line(error)}); nothing was pushed to {repo}, try again with "
            "a network."
        ) from error
    return str(url), kept


def _client_error() -> type[Exception]:
    """The error that the hub's HTTP client raises without a network; the client depends on the version."""
    from huggingface_hub.utils import get_session

    client = type(get_session()).__module__.partition(".")[0]
    return import_module(client).HTTPError


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
