"""The exported web page: pixels are the same as in Python, and its runtime is the published one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot import FewShotClassifier
from farshot.cli.console import as_flags
from farshot.errors import DataError, ModelError
from farshot.export import export, web_page, web_runtime
from farshot.export.about import describe_reading, load_exact
from farshot.export.web_runtime import registry, runtime_files
from farshot.images.preprocess import FILTERS, prepare
from farshot.randomness import numpy_generator
from tests.input_helpers import Farshot, everything_in, refusal
from tests.pages import serving
from tests.toy import world_table

PAGE = Path(web_page.__file__).with_name("page")
NODE = shutil.which("node")
SIZE = 32
READINGS = [
    *("squash", "centre"),
    *(f"{kind}-{name}" for kind in ("squash", "shortest", "shortest40") for name in FILTERS),
    *(
        "shortest-bicubic-floor",
        "shortest37-bicubic",
        "squash37-bicubic",
        "squash20-lanczos",
        "shortest20-box",
    ),
]
SHAPES = [(97, 61), (33, 200), (32, 32), (5, 5), (3, 400), (400, 3)]
"""Wide, tall, of the right size, too small, and over 100 to 1, which Pillow resizes in another order."""

_PROGRAM = """
import { readFileSync, writeFileSync } from 'node:fs';
const { geometry, resized } = await import(process.argv[1]);
const cases = JSON.parse(readFileSync(process.argv[2], 'utf8'));
writeFileSync(process.argv[3], Buffer.concat(cases.map(({ file, width, height, images }) => {
  const whole = readFileSync(file);
  const plan = geometry(width, height, images);
  const { left, top, width: across } = plan.part;
  const rows = (y, count) => Buffer.concat(Array.from({ length: count }, (_, row) => {
    const at = ((y + row + top) * width + left) * 4;
    return whole.subarray(at, at + across * 4);
  }));
  return Buffer.from(resized(rows, plan, images));
})));
"""


@pytest.mark.skipif(NODE is None, reason="there is no node on this machine")
def test_pictures_are_resized_as_pillow_does_to_the_bit(tmp_path: Path):
    generator = numpy_generator("test", "resize")
    pictures, cases = [], []
    for number, (width, height) in enumerate(SHAPES):
        pixels = generator.integers(0, 256, (height, width, 4), dtype=np.uint8)
        (tmp_path / f"{number}.rgba").write_bytes(pixels.tobytes())
        pictures.append(Image.fromarray(pixels[..., :3]))
        for reading in READINGS:
            file = str(tmp_path / f"{number}.rgba")
            images = describe_reading(reading, SIZE)
            cases.append({"file": file, "width": width, "height": height, "images": images})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = [NODE, "--input-type=module", "-e", _PROGRAM]
    files = [(PAGE / "reading.js").as_uri(), tmp_path / "cases.json", tmp_path / "found"]
    subprocess.run([*command, *files], check=True)
    found = np.fromfile(tmp_path / "found", np.uint8).reshape(-1, SIZE, SIZE, 3)
    wanted = [prepare(picture, reading, SIZE) for picture in pictures for reading in READINGS]
    different = [
        (case["width"], case["height"], reading)
        for case, reading, ours, theirs in zip(cases, READINGS * len(SHAPES), wanted, found, strict=True)
        if not np.array_equal(ours, theirs)
    ]
    assert different == []


# The runtime -----------------------------------------------------------------------------------------


def _package(files: dict[str, bytes]) -> bytes:
    """An npm package with these files in its dist."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


RUNTIME = {name: f"the content of {name}".encode() for name in web_runtime.FILES}
PACKAGE = _package(RUNTIME)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A registry with a small package as the pinned one, for a computer without npm; what it was asked."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_userconfig"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    digest = base64.b64encode(hashlib.sha512(PACKAGE).digest()).decode()
    monkeypatch.setattr(web_runtime, "INTEGRITY", digest)
    for name, content in RUNTIME.items():
        monkeypatch.setitem(web_runtime.FILES, name, hashlib.sha256(content).hexdigest())
    place = tmp_path / "registry" / "onnxruntime-web" / "-"
    place.mkdir(parents=True)
    (place / f"onnxruntime-web-{web_runtime.VERSION}.tgz").write_bytes(PACKAGE)
    with serving(tmp_path / "registry") as (address, asked):
        (tmp_path / ".npmrc").write_text(f"; mine\nfund=false\nregistry = {address}\n//host/:_authToken=x\n")
        yield asked


def test_the_runtime_is_fetched_once_from_the_registry_of_npmrc(published: list[str]):
    assert runtime_files() == RUNTIME
    assert runtime_files() == RUNTIME
    assert len(published) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(published: list[str], tmp_path: Path):
    runtime_files()
    kept = next((tmp_path / "cache").rglob("*.wasm"))
    kept.write_bytes(b"cut short")
    assert runtime_files() == RUNTIME
    assert (len(published), kept.read_bytes()) == (2, RUNTIME[kept.name])


def test_a_package_that_is_not_the_published_one_is_not_used(published: list[str], tmp_path: Path):
    other = next((tmp_path / "registry").rglob("*.tgz"))
    other.write_bytes(_package({name: content + b"!" for name, content in RUNTIME.items()}))
    with pytest.raises(DataError, match=r"something else than onnxruntime-web .+ nothing of it is used"):
        runtime_files()
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_without_a_network_one_sentence_names_the_way_out(
    published: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"cannot be fetched .+127\.0\.0\.1:9.+ with runtime=FOLDER"):
        runtime_files()
    assert published == []


def test_a_folder_is_taken_only_with_the_published_files(published: list[str], tmp_path: Path):
    with tarfile.open(fileobj=io.BytesIO(PACKAGE)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    for place in ("", "package", "package/dist"):
        assert runtime_files(tmp_path / "unpacked" / place) == RUNTIME
    next((tmp_path / "unpacked").rglob("*.mjs")).write_bytes(b"another version")
    with pytest.raises(DataError, match="unpacked does not hold onnxruntime-web"):
        runtime_files(tmp_path / "unpacked")
    assert published == []


@pytest.mark.parametrize(
    ("environment", "npmrc", "expected"),
    [
        (
            {"NPM_CONFIG_REGISTRY": "https://a.example/npm"},
            "registry=https://b.example",
            "https://a.example/npm/",
        ),
        ({"MIRROR": "https://c.example"}, 'registry="${MIRROR}/"', "https://c.example/"),
        ({}, "[section]\n=\n", None),
        ({}, None, None),
    ],
)
def test_the_registry_is_that_of_the_environment_or_of_npmrc(
    environment, npmrc, expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_userconfig"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if npmrc:
        (tmp_path / ".npmrc").write_text(npmrc)
    if expected is None:
        with pytest.raises(
            DataError, match=r"install npm, or set npm_config_registry .* with runtime=FOLDER"
        ):
            registry()
    else:
        assert registry() == expected
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(DataError, match="is no address"):
        registry()


# The export ------------------------------------------------------------------------------------------

TABLE = world_table(count=400)
LABELLED = TABLE.subset(range(0, 40, 2))


@pytest.fixture(scope="module")
def probe(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "adapted"
    FewShotClassifier(checkpoint, "linear-probe", calibrate=True).fit(LABELLED).save(folder)
    return folder


@pytest.mark.slow
def test_a_page_is_a_folder_that_asks_nobody_else(
    probe: Path, published: list[str], farshot: Farshot, tmp_path: Path
):
    told = farshot("export", probe, "--format", "web", "--out", tmp_path / "page")
    assert told.code == 0, told.err
    assert (
        "python -m http.server" in told.out
        and "model.onnx holds features of your labelled images" in told.out
    )
    about = json.loads((tmp_path / "page" / "export.json").read_text())
    assert set(about["files"]) == everything_in(tmp_path / "page")
    assert {"model.onnx", "index.html", "LICENSE.onnxruntime.txt"} < set(about["files"])
    assert (tmp_path / "page" / "onnxruntime-web.wasm").read_bytes() == RUNTIME["ort-wasm-simd-threaded.wasm"]
    page = (tmp_path / "page" / "index.html").read_text()
    policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'"
    assert policy in page
    assert len(about["labelled_similarity"]) == len(LABELLED)
    written = "".join(path.read_text() for path in PAGE.iterdir())
    assert "//" not in written.replace("http://www.w3.org/2000/svg", "").replace("// ", "").replace("///", "")


def test_what_a_page_cannot_do_is_refused(probe: Path, farshot: Farshot, tmp_path: Path):
    made = load_exact(probe)
    made.read_options_ = type(made.read_options_)(range=(0, 4095))
    with pytest.raises(ModelError, match="reads pictures with range, which browsers cannot"):
        export(made, "web", tmp_path / "page")
    said = refusal(
        farshot("export", probe, "--format", "onnx", "--runtime", tmp_path, "--out", tmp_path / "out")
    )
    assert "--runtime is for --format web" in said
    said = refusal(
        farshot("export", probe, "--format", "web", "--runtime", tmp_path, "--out", tmp_path / "out")
    )
    assert "does not hold onnxruntime-web" in said
    assert as_flags("get it elsewhere, runtime=FOLDER") == "get it elsewhere, --runtime FOLDER"
    assert everything_in(tmp_path) == set()
