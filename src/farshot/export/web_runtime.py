"""ONNX Runtime for browsers, which is too large to come with farshot: fetched once from the npm registry.

One version is pinned. The package is checked against its SHA-512, as npm does, and each file against its
SHA-256, whether it comes from the registry, the cache or a folder of the user's.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from farshot.errors import DataError
from farshot.storage.atomic import check_writable, reason, replaced
from farshot.storage.paths import default_cache, home

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
NAMED = f"{PACKAGE} {VERSION}"
FILES = {
    # WebAssembly alone, for one thread or several; the others add WebGPU, WebGL or WebNN
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Name in the package's dist -> SHA-256."""

INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_MOST_BYTES = 1 << 26  # of the package, which has 33 MB
_SECONDS = 60, 900  # without an answer; in all
_OTHERWISE = f"or get {PACKAGE}@{VERSION} elsewhere and name its folder with runtime=FOLDER"


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """The content of `FILES`: from the folder, else from farshot's cache, else from the npm registry.

    Args:
        folder: the unpacked package, its dist, or a folder with the files.

    Raises:
        DataError: the folder has other files, or the registry cannot be reached or sends something else.
    """
    if folder is not None:
        return _given(home(folder))
    kept = default_cache() / f"{PACKAGE}-{VERSION}"
    found = _read(kept)
    if found is not None:
        return found
    check_writable(kept, "name another cache with FARSHOT_CACHE", *FILES)
    found = _unpacked(_package())
    try:
        kept.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            with replaced(kept / name) as staging:
                staging.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"{kept} cannot be written ({reason(error)}); free some space, or name another cache with "
            "FARSHOT_CACHE."
        ) from error
    return found


def is_kept() -> bool:
    """Whether the cache has the files, so that nothing is fetched."""
    return _read(default_cache() / f"{PACKAGE}-{VERSION}") is not None


def registry() -> str:
    """The npm registry of the environment or of the user's .npmrc; it ends with a slash.

    Raises:
        DataError: neither names one, or it is no address.
    """
    named = {name.lower(): value for name, value in os.environ.items() if value}
    found = named.get("npm_config_registry") or _of_npmrc(named.get("npm_config_userconfig"))
    if not found:
        raise DataError(
            f"{NAMED}, which runs the model in a browser, comes from the npm registry; install npm, or set "
            f"npm_config_registry to a registry's address, {_OTHERWISE}."
        )
    if not found.startswith(("https://", "http://")):
        raise DataError(f"The npm registry {found} is no address; correct it: npm config set registry URL.")
    return found.rstrip("/") + "/"


def _of_npmrc(named: str | None) -> str | None:
    file = Path(named) if named else Path.home() / ".npmrc"
    lines = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#", ";")
    )
    try:
        lines.read_string("[npmrc]\n" + file.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return None
    found = lines["npmrc"].get("registry")
    return os.path.expandvars(found.strip("\"' ")) if found else None


def _given(folder: Path) -> dict[str, bytes]:
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if (found := _read(place)) is not None:
            return found
    raise DataError(
        f"{folder} does not hold {NAMED} with {' and '.join(FILES)} as published; unpack what "
        f"`npm pack {PACKAGE}@{VERSION}` fetches, and name that folder."
    )


def _read(folder: Path) -> dict[str, bytes] | None:
    """The files, where all are there and as published."""
    try:
        found = {name: (folder / name).read_bytes() for name in FILES}
    except OSError:
        return None
    return found if all(hashlib.sha256(found[name]).hexdigest() == FILES[name] for name in FILES) else None


def _package() -> bytes:
    """The package as the registry sends it: through npm where it is installed, since it knows logins,
    proxies and certificates."""
    npm = shutil.which("npm")
    return _download() if npm is None else _packed(npm)


def _packed(npm: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="farshot-") as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--ignore-scripts"]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_SECONDS[1], check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _missing(type(error).__name__) from error
        packed = list(Path(folder).glob("*.tgz"))
        if ended.returncode or len(packed) != 1:
            told = [line.removeprefix("npm error ").strip() for line in ended.stderr.splitlines()]
            raise _missing(max(told, key=len, default="npm failed")[:200])  # the longest says most
        return packed[0].read_bytes()


def _download() -> bytes:
    address = f"{registry()}{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS[0]) as answer:  # of http or https alone
            content: bytes = answer.read(_MOST_BYTES + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise _missing(f"{address}: {getattr(error, 'reason', None) or reason(error)}") from error
    return content


def _unpacked(package: bytes) -> dict[str, bytes]:
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if digest != INTEGRITY:
        raise DataError(
            f"The npm registry sent something else than {NAMED} (its SHA-512 differs), and nothing of it is "
            f"used; try again, {_OTHERWISE}."
        )
    found = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            found[name] = member.read()
    return found


def _missing(why: str) -> DataError:
    return DataError(
        f"{NAMED}, which runs the model in a browser, cannot be fetched from the npm registry ({why}); try "
        f"again with a network, {_OTHERWISE}."
    )
