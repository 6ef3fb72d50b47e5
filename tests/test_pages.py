"""A page of a TIFF is chosen as a frame of DICOM is, and HEIC photographs are read within bounds."""

from __future__ import annotations

import builtins
import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from farshot import FewShotClassifier, load
from farshot.data.readers import unlabelled
from farshot.data.table import ReadingNote
from farshot.errors import DataError
from farshot.images.options import ReadOptions
from farshot.images.reading import UnreadableImage, read_image, read_picture
from farshot.model.catalogue import TOY_NOTE
from tests.image_bytes import encoded, refused
from tests.input_helpers import Farshot, picture, pixels_of

# Pages of a TIFF -----------------------------------------------------------------------------------------


def pages_of(*images: Image.Image, **options) -> bytes:
    return encoded(images[0], "TIFF", save_all=True, append_images=list(images[1:]), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "tiff_deflate"},
        {"compression": "tiff_lzw"},
        {"compression": "jpeg", "quality": 95},
        {"big_tiff": True},
    ],
    ids=str,
)
def test_the_chosen_page_is_read_as_if_it_were_alone(tmp_path: Path, options: dict) -> None:
    images = [picture(number, 24 + 8 * number, 16) for number in range(3)]
    data = pages_of(*images, **options)
    (tmp_path / "x.tif").write_bytes(data)
    assert read_picture(data).notes == ("it has 3 pages; the first is read (--page chooses another).",)
    for page, image in enumerate(images, 1):
        alone = read_picture(encoded(image, "TIFF", **options))
        for source in (data, tmp_path / "x.tif"):
            found = read_picture(source, ReadOptions(page=page))
            assert (found.size, found.notes) == (alone.size, ())
            assert np.array_equal(pixels_of(found.image), pixels_of(alone.image))
    assert "it has no page 4, only 3; choose another, or leave it out" in refused(data, page=4)


def test_a_page_of_many_bits_is_scaled_by_its_own_values(tmp_path: Path) -> None:
    values = [np.linspace(0, top, 300).astype(np.uint16).reshape(15, 20) for top in (60000, 1000)]
    data = pages_of(*map(Image.fromarray, values))
    found = read_picture(data, ReadOptions(page=2))
    assert np.array_equal(pixels_of(found.image)[..., 0], np.rint(values[1] * (255 / 1023)))
    assert "read as 10 bits" in found.notes[0]


def test_thumbnails_and_masks_are_no_pages() -> None:
    data = bytearray(pages_of(picture(0), picture(1), picture(2)))
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    (second,) = struct.unpack_from("<I", data, place + 2 + 12 * entries)
    tags = [struct.unpack_from("<H", data, second + 2 + 12 * n)[0] for n in range(8)]
    struct.pack_into("<HHII", data, second + 2 + 12 * tags.index(256), 254, 4, 1, 1)  # a reduced picture
    found = read_picture(bytes(data), ReadOptions(page=2))
    assert np.array_equal(pixels_of(found.image), pixels_of(picture(2)))
    assert "it has no page 3, only 2" in refused(bytes(data), page=3)


def test_a_picture_without_pages_is_read_in_any_case() -> None:
    assert np.array_equal(
        pixels_of(read_image(encoded(picture(1), "PNG"), options=ReadOptions(page=3))), pixels_of(picture(1))
    )
    single = encoded(picture(1), "TIFF")
    assert read_picture(single, ReadOptions(page=1)).notes == ()
    assert "it has no page 2, only 1" in refused(single, page=2)


def test_damaged_pages_are_read_or_refused_and_nothing_else(capfd) -> None:
    whole = np.frombuffer(pages_of(picture(0), picture(1), compression="tiff_lzw"), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = whole.copy()
        damaged[generator.integers(0, len(damaged), 6)] = generator.integers(0, 256, 6)
        try:
            read_picture(damaged.tobytes(), ReadOptions(page=2))
        except UnreadableImage as error:
            assert str(error).endswith(".")
    assert capfd.readouterr().err == ""


def test_the_page_is_kept_with_the_model_and_in_its_command(tmp_path: Path, farshot: Farshot) -> None:
    for number in range(4):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pages_of(picture(0), picture(number)))
    adapt = ("adapt", tmp_path / "data", "--model", "mini", "--method", "linear-probe", "--out")
    told = farshot(*adapt, tmp_path / "second", "--page", "2")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    made = load(tmp_path / "second")
    assert made.read_options_ == ReadOptions(page=2)
    alone = [picture(number) for number in range(4)]
    plain = FewShotClassifier("mini", "linear-probe", calibrate=True).fit(alone, ["a", "b", "a", "b"])
    paths = sorted((tmp_path / "data").rglob("*.tif"), key=lambda path: path.name)
    np.testing.assert_allclose(made.predict_proba(paths), plain.predict_proba(alone), atol=1e-6)
    told = farshot("adapt", tmp_path / "data", "--from", tmp_path / "second", "--page", "1", "--out", "x")
    assert told.code == 2
    assert "leave out --page" in told.err
    told = farshot(*adapt, tmp_path / "third", "--page", "3")
    assert "it has no page 3, only 2" in told.err
    told = farshot("predict", tmp_path / "second", *paths)
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    told = farshot("pick", *paths, "--count", "2", "--page", "2", "--model", "mini", "--out", tmp_path / "p")
    assert (told.code, told.err) == (0, "")
    assert "--page 2" in told.out + (tmp_path / "p" / "index.html").read_text(encoding="utf-8")


# HEIC ----------------------------------------------------------------------------------------------------


def heic(*images: Image.Image, **options) -> bytes:
    file = pillow_heif.HeifFile()
    for image in images:
        file.add_from_pillow(image)
    out = io.BytesIO()
    file.save(out, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return out.getvalue()


def shade(number: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture."""
    rows, columns = np.mgrid[0:48, 0:64]
    values = np.stack([rows * 5, columns * 3, (rows + columns + 40 * number) % 256], axis=-1)
    image = Image.fromarray(values.astype(np.uint8))
    if mode == "RGBA":
        image.putalpha(Image.fromarray((columns * 4).astype(np.uint8)))
    return image


def test_a_heic_photograph_is_read(tmp_path: Path) -> None:
    data = heic(shade(0))
    (tmp_path / "x.jpg").write_bytes(data)  # the content counts, not the name
    for source in (data, tmp_path / "x.jpg"):
        found = read_picture(source)
        assert (found.size, found.notes) == ((64, 48), ())
        assert np.abs(pixels_of(found.image).astype(int) - pixels_of(shade(0))).max() <= 2
    swapped = read_picture(data, ReadOptions(bands=(3, 2, 1)))
    assert np.array_equal(pixels_of(swapped.image), pixels_of(read_image(data))[..., ::-1])


def test_its_transparency_lies_over_white() -> None:
    clear = shade(0, "RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    found = pixels_of(read_image(heic(clear))).astype(int)
    assert np.abs(found - pixels_of(expected)).max() <= 4


def test_of_several_pictures_the_main_one_or_the_one_that_is_chosen() -> None:
    data = heic(shade(0), shade(1), shade(2), primary_index=1)
    found = read_picture(data)
    assert found.notes == ("it has 3 pictures; the main one is read (--page chooses another).",)
    assert np.abs(pixels_of(found.image).astype(int) - pixels_of(shade(1))).max() <= 2
    third = read_picture(data, ReadOptions(page=3))
    assert third.notes == ()
    assert np.abs(pixels_of(third.image).astype(int) - pixels_of(shade(2))).max() <= 2
    assert "it has no page 4, only 3" in refused(data, page=4)


def test_a_frame_larger_than_the_container_says_is_not_decoded() -> None:
    data = heic(Image.new("RGB", (800, 800)))
    place = data.index(b"ispe") + 8
    small = data[:place] + struct.pack(">II", 40, 30) + data[place + 8 :]
    assert "cannot be read here" in refused(small)
    large = data[:place] + struct.pack(">II", 12000, 9000) + data[place + 8 :]
    assert "over 50 megapixels" in refused(large)


def test_deep_grey_of_a_heic_is_scaled_as_other_pictures_of_sixteen_bits() -> None:
    values = np.full((64, 96), 40000, np.uint16)
    values[:, 48:] //= 4
    data = heic(Image.fromarray(values))
    for options, wanted in ((None, (156, 39)), (ReadOptions(range=(10000, 40000)), (255, 0))):
        found = pixels_of(read_picture(data, options).image)
        assert np.abs(found[8, [8, 88], 0].astype(int) - wanted).max() <= 2


def test_damage_anywhere_in_a_heic_is_read_or_refused(capfd) -> None:
    whole = np.frombuffer(heic(shade(0)), np.uint8)
    generator = np.random.default_rng(0)
    for number in range(150):
        damaged = whole.copy()
        damaged[generator.integers(0, len(damaged) if number % 2 else 400, 4)] = generator.integers(0, 256, 4)
        try:
            read_picture(damaged.tobytes())
        except UnreadableImage as error:
            assert str(error).endswith(".")
            assert "\n" not in str(error)
    assert capfd.readouterr().err == ""


def test_without_pillow_heif_or_with_an_old_one_the_extra_is_named(monkeypatch) -> None:
    data, real = heic(shade(0)), builtins.__import__
    monkeypatch.setattr(pillow_heif, "__version__", "0.22.0")
    assert "this pillow-heif is too old: pip install -U 'farshot[heic]'" in refused(data)

    def importing(name: str, *more):
        if name == "pillow_heif":
            raise ImportError
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", importing)
    assert "pillow-heif is not installed: pip install -U 'farshot[heic]'" in refused(data)


def test_a_folder_may_hold_heic_photographs(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic(shade(0), shade(1)))
    shade(2).save(tmp_path / "b.png")
    table = unlabelled([tmp_path])
    with pytest.warns(ReadingNote, match="a.heic: it has 2 pictures"):
        table.check_readable()
    (tmp_path / "c.heic").write_bytes(heic(shade(0))[:300])
    with pytest.raises(DataError, match="1 of 3 images cannot be read"), pytest.warns(ReadingNote):
        unlabelled([tmp_path]).check_readable()
