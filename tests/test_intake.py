"""What is uploaded is stored byte for byte or refused in a sentence, and does nothing else."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from farshot.app.workspace import intake
from farshot.app.workspace.intake import Refused, Taken, Upload, take_in
from farshot.app.workspace.limits import Limits
from farshot.errors import DataError, SettingError
from farshot.images.costs import FORMATS
from farshot.images.reading import MOST_PIXELS, image_id, read_image
from tests.hostile import Hostile, hostile_uploads
from tests.image_bytes import encoded, png
from tests.input_helpers import everything_in, picture, pixels_of, subprocess_environment
from tests.zip_bytes import Piece, zipped

LIMITS = Limits()
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
Outcome = tuple[list[Taken], list[Refused]]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Hostile]:
    """Everything that means harm."""
    return hostile_uploads(tmp_path_factory.mktemp("uploads"))


def sent(
    folder: Path, files: dict[str, bytes], limits: Limits = LIMITS, known: tuple[str, ...] = ()
) -> Outcome:
    """What comes of files under these names; stored in `place`."""
    uploads = []
    (folder / "sent").mkdir(exist_ok=True)
    for number, (name, data) in enumerate(files.items()):
        uploads.append(Upload(name, folder / "sent" / str(number)))
        uploads[-1].path.write_bytes(data)
    return take_in(uploads, folder / "place", limits, known)


def image(number: int, kind: str = "PNG") -> bytes:
    return encoded(picture(number, 8, 8), kind)


def is_plain(name: str) -> bool:
    """Whether a name is one line of text without separators and marks of direction."""
    kinds = {unicodedata.category(c) for c in name}
    return (
        0 < len(name) <= 100 and not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"} and not re.search(r"[/\\]", name)
    )


def check(taken: list[Taken], refused: list[Refused], place: Path) -> None:
    """True of every upload: the folder has only these images, each under its content."""
    assert everything_in(place) >= {image.path.name for image in taken}
    for name in everything_in(place):
        assert re.fullmatch(r"[0-9a-f]{32}\.(jpg|png|webp|gif|bmp|tif|ppm)", name)
    for one in taken:
        assert is_plain(one.name)
        assert one.place.folder is None or is_plain(one.place.folder)
        assert one.path.parent == place
        assert one.path.stem == one.id == image_id(one.path)
        assert read_image(one.path).mode == "RGB"
    for other in refused:
        assert is_plain(other.name)
        assert other.reason.endswith(".")
        assert "\n" not in other.reason
        assert len(other.reason) <= 300


# Hostile -------------------------------------------------------------------------------------------------


def test_there_are_many_kinds_of_harm(hostile: list[Hostile]) -> None:
    assert len({upload.kind for upload in hostile}) == len(hostile) >= 50


def test_each_is_refused_for_what_it_is_and_what_is_good_is_taken(
    hostile: list[Hostile], tmp_path: Path
) -> None:
    before = everything_in(hostile[0].path.parent)
    wrong = {}
    for number, upload in enumerate(hostile):
        place = tmp_path / str(number)
        taken, refused = take_in([Upload(upload.name, upload.path)], place, LIMITS)
        check(taken, refused, place)
        told = [one.reason for one in refused]
        fits = any(upload.words in reason for reason in told) if upload.words else not told
        if len(taken) != upload.taken or not fits:
            wrong[upload.kind] = (taken, told)
    assert not wrong
    assert everything_in(hostile[0].path.parent) == before  # nothing ran, nothing was written elsewhere
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(len(hostile))}


def test_all_at_once(hostile: list[Hostile], tmp_path: Path) -> None:
    taken, refused = take_in([Upload(one.name, one.path) for one in hostile], tmp_path / "place", LIMITS)
    check(taken, refused, tmp_path / "place")
    assert len(taken) == sum(one.taken for one in hostile)
    assert {path.name for path in tmp_path.iterdir()} == {"place"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is not told here")
def test_memory_stays_bounded(hostile: list[Hostile], tmp_path: Path) -> None:
    """Of a separate process, since a peak is never forgotten."""
    listed = tmp_path / "listed.txt"
    paths = [upload.path for upload in hostile if "\0" not in str(upload.path)]
    listed.write_text("\n".join(map(str, paths)))
    (tmp_path / "warm.png").write_bytes(image(0))
    program = f"""
from pathlib import Path
from farshot.app.workspace.intake import Upload, take_in
from farshot.app.workspace.limits import Limits
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
def send(paths):
    uploads = [Upload(str(path), path) for path in paths]
    return len(take_in(uploads, Path({str(tmp_path / "place")!r}), Limits())[0])
send([Path({str(tmp_path / "warm.png")!r})])
before = peak()
print(send(map(Path, Path({str(listed)!r}).read_text().splitlines())), peak() - before)
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    taken, megabytes = map(int, told.stdout.split())
    assert taken == sum(upload.taken for upload in hostile)
    assert megabytes < 300


def test_code_of_formats_that_are_not_taken_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    ran = []

    def run(*_arguments: object) -> None:
        ran.append(1)
        raise SyntaxError

    others = set(Image.OPEN) - set(FORMATS)
    assert others >= {"EPS", "PSD", "ICO", "ICNS"}
    for kind in others:
        monkeypatch.setitem(Image.OPEN, kind, (run, None))
    files = {
        "a.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "b.png": image(0)[:30],
        "c.zip": zipped(Piece("d", b"8BPS")),
    }
    taken, refused = sent(tmp_path, files)
    assert (taken, len(refused), ran) == ([], 3, [])


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_in_a_zip_is_a_refusal_and_nothing_else(tmp_path: Path, seed: int) -> None:
    whole = np.frombuffer(zipped(*(Piece(f"cat/{n}.png", image(n)) for n in range(3))), np.uint8)
    generator = np.random.default_rng(seed)
    for _ in range(60):
        damaged = whole.copy()
        damaged[generator.integers(4, len(whole), 4)] = generator.integers(0, 256, 4)
        check(*sent(tmp_path, {"images.zip": damaged.tobytes()}), tmp_path / "place")


# Names ---------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="./\\:\0 ~a\u202e\u2028\r\nCON", max_size=40),
    st.lists(st.sampled_from(["..", ".", "", "C:", "a", "NUL", "\u2067b", "._c", " "]), max_size=6).map(
        "/".join
    ),
)


@FEW
@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_whatever_the_names_nothing_leaves_the_folder(tmp_path: Path, names: list[str]) -> None:
    files = {name: image(number) for number, name in enumerate(names)}
    taken, refused = sent(tmp_path, files)
    check(taken, refused, tmp_path / "place")
    assert {path.name for path in tmp_path.iterdir()} == {"place", "sent"}


@FEW
@given(names=st.lists(NAMES, min_size=1, max_size=4), data=st.data())
def test_whatever_the_names_in_a_zip_nothing_leaves_the_folder(
    tmp_path: Path, names: list[str], data: st.DataObject
) -> None:
    mode = data.draw(st.sampled_from([0, 0o100644, 0o120777, 0o040755]))
    pieces = (Piece(n.encode("utf-8", "replace"), image(i), mode=mode) for i, n in enumerate(names))
    check(*sent(tmp_path, {"images.zip": zipped(*pieces)}), tmp_path / "place")
    assert {path.name for path in tmp_path.iterdir()} == {"place", "sent"}


def test_names_are_shown_as_one_line_and_keep_their_extension(tmp_path: Path) -> None:
    names = [
        "a" * 300 + ".jpeg",
        "\u202ecat\n\x1b[1m.png",
        "C:\\fakepath\\cat 1.png",
        "né.png",
        "<b>x</b>",
        "\0",
    ]
    taken, _ = sent(tmp_path, {name: image(number) for number, name in enumerate(names)})
    shown = [one.name for one in taken]
    assert shown == ["a" * 94 + "….jpeg", "cat [1m.png", "cat 1.png", "né.png", "b>", "unnamed"]
    assert [one.place.folder for one in taken] == [None, None, None, None, "<b>x<", None]


def test_the_folder_of_an_image_proposes_its_class(tmp_path: Path) -> None:
    names = ["pets/cat/1.png", "pets/dog/big/2.png", "pets/cover.png"]
    for files in (
        {name: image(number) for number, name in enumerate(names)},
        {"pets.zip": zipped(*(Piece(name, image(number)) for number, name in enumerate(names)))},
    ):
        taken, _ = sent(tmp_path, files)
        assert {one.name: one.place.folder for one in taken} == {
            "1.png": "cat",
            "2.png": "big",
            "cover.png": None,
        }
    taken, _ = sent(tmp_path, {"one.zip": zipped(Piece("owl/3.png", image(3)), Piece("owl/4.png", image(4)))})
    assert [one.place.folder for one in taken] == ["owl", "owl"]


def test_names_of_a_mac_are_utf8_though_the_zip_does_not_say_so(tmp_path: Path) -> None:
    pieces = [Piece("Äpfel/é.png", image(0), flags=0), Piece(b"B\x84ume/1.png", image(1), flags=0)]
    taken, _ = sent(tmp_path, {"images.zip": zipped(*pieces)})
    assert [(one.place.folder, one.name) for one in taken] == [("Äpfel", "é.png"), ("Bäume", "1.png")]


def test_litter_of_systems_is_passed_over_in_silence(tmp_path: Path) -> None:
    litter = ["cat/.DS_Store", "Thumbs.db", "cat/._1.png", "__MACOSX/cat/1.png", "desktop.ini"]
    pieces = [Piece(name, b"x") for name in [*litter, ".hidden/2.png", ".3.png", "cat/"]]
    files = dict.fromkeys(litter, b"x") | {"a.zip": zipped(*pieces, Piece("cat/1.png", image(1)))}
    taken, refused = sent(tmp_path, files)
    assert ([one.name for one in taken], refused) == (["1.png"], [])


# Stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *(("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp")),
        *(("TIFF", ".tif"), ("PPM", ".ppm"), ("MPO", ".jpg")),
    ],
)
def test_every_format_is_stored_as_it_came_under_its_true_extension(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    more = {"save_all": True, "append_images": [picture(1, 8, 8)]} if kind == "MPO" else {}
    data = encoded(picture(0, 8, 8), kind, **more)
    for files in ({"a.exe": data}, {"b.zip": zipped(Piece("c.txt", data))}):
        (taken,), refused = sent(tmp_path, files)
        assert refused == []
        assert (taken.path.suffix, taken.path.read_bytes(), taken.id) == (suffix, data, image_id(data))
        assert np.array_equal(pixels_of(read_image(taken.path)), pixels_of(read_image(data)))


def test_the_same_image_is_stored_once_and_said_to_be_here(tmp_path: Path) -> None:
    files = {"a.png": image(0), "b.png": image(0), "c.zip": zipped(Piece("d.png", image(0)))}
    (first,), again = sent(tmp_path, files)
    assert [(one.name, one.same_as) for one in again] == [("b.png", first.id), ("d.png", first.id)]
    assert all("already here" in one.reason for one in again)
    taken, again = sent(tmp_path, {"e.png": image(0), "f.png": image(1)}, known=(first.id,))
    assert [one.name for one in taken] == ["f.png"]
    assert [one.same_as for one in again] == [first.id]
    assert len(everything_in(tmp_path / "place")) == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_what_stops_the_checking_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def fail(*_arguments: object) -> None:
        raise stop

    monkeypatch.setattr(intake, "check_image", fail)
    with pytest.raises(stop):
        sent(tmp_path, {"a.png": image(0)})
    assert everything_in(tmp_path / "place") == set()


def test_a_full_disk_is_a_refusal_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    taken, refused = sent(tmp_path, {"a.png": image(0), "b.zip": zipped(Piece("c.png", image(1)))})
    assert taken == []
    assert [one.name for one in refused] == ["a.png", "c.png"]
    assert all("cannot be stored (No space left on device); free some space" in one.reason for one in refused)
    assert everything_in(tmp_path / "place") == set()


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be made"):
        take_in([], tmp_path / "file" / "place", LIMITS)


# Limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3", None])
def test_limits_are_whole_numbers_from_one(value: object) -> None:
    # the checker of types refuses other types before the class itself can
    with pytest.raises(Exception, match=r"whole number from 1|[Tt]ype") as error:
        Limits(images=value)  # type: ignore[arg-type]
    if isinstance(value, int):
        assert isinstance(error.value, SettingError)


def test_no_limit_exceeds_what_can_be_read() -> None:
    with pytest.raises(SettingError, match="pixels must be at most 100000000"):
        Limits(pixels=MOST_PIXELS + 1)


def test_each_limit_is_said_with_its_number(tmp_path: Path) -> None:
    limits = Limits(file_bytes=2_000, archive_bytes=3_000, pixels=100, entries=4)
    noise = encoded(picture(0, 40, 40), "PNG")
    files = {
        "large.png": noise,
        "wide.png": png(11, 10, 1, 0, bytes(30)),
        "large.zip": zipped(Piece("a.png", noise)),
        "many.zip": zipped(*(Piece(f"{n}.png", b"") for n in range(5))),
        "entry.zip": zipped(Piece("b.bmp", bytes(2_001))),
    }
    taken, refused = sent(tmp_path, files, limits)
    assert taken == []
    assert {one.name: one.reason.partition(";")[0] for one in refused} == {
        "large.png": "the file is over 0.002 MB",
        "wide.png": "the image (11 x 10) is over 0.0001 megapixels",
        "large.zip": "the zip is over 0.003 MB",
        "many.zip": "the zip lists over 4 files",
        "b.bmp": "it is over 0.002 MB",
    }


def test_a_full_workspace_says_so_once_for_a_zip(tmp_path: Path) -> None:
    files = {f"{n}.png": image(n) for n in range(4)}
    taken, refused = sent(tmp_path, files, Limits(images=3), known=("0" * 32,))
    assert [one.name for one in taken] == ["0.png", "1.png"]
    assert [one.name for one in refused] == ["2.png", "3.png"]
    assert all("at most 3 images; remove some first" in one.reason for one in refused)
    packed = zipped(*(Piece(f"cat/{n}.png", image(n)) for n in range(9)))
    taken, refused = sent(tmp_path, {"nine.zip": packed}, Limits(images=3))
    assert len(taken) == 3
    assert [(one.name, one.reason) for one in refused] == [
        (
            "nine.zip",
            "the last 6 files in it were left out: the workspace holds at most 3 images; remove some first.",
        )
    ]


def test_what_exceeds_the_total_of_a_zip_is_left_for_another(tmp_path: Path) -> None:
    pieces = [Piece(f"{n}.bmp", encoded(picture(n, 8, 8), "BMP")) for n in range(9)]
    one = len(pieces[0].data)
    note = Piece("notes.txt", b"no image " * 20_000)  # only its first bytes are unpacked
    taken, refused = sent(tmp_path, {"a.zip": zipped(*pieces)}, Limits(unpacked_bytes=4 * one))
    assert [image.name for image in taken] == ["0.bmp", "1.bmp", "2.bmp", "3.bmp"]
    assert [r.name for r in refused] == ["a.zip"]
    assert "send the last 5 files in another zip" in refused[0].reason
    taken, refused = sent(tmp_path, {"b.zip": zipped(note, *pieces)}, Limits(unpacked_bytes=200_000))
    assert len(taken) == 9
    assert [r.name for r in refused] == ["notes.txt"]
