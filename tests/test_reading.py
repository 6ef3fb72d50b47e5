"""Every odd form of an image is read right, against a known answer; what cannot be read is refused."""

from __future__ import annotations

import io
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from farshot.data.cache import cached, prepare
from farshot.data.pool import pool_of
from farshot.data.readers import read_table
from farshot.images import reading
from farshot.images.options import ReadOptions
from farshot.images.reading import Header, UnreadableImage, image_id, read_header, read_image, read_picture
from tests.image_bytes import encoded, png, refused, tiled
from tests.input_helpers import picture, pixels_of

RAMP = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
RAMP_8 = np.rint(RAMP / 257).astype(np.uint8)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


# Read right ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(RAMP).save(path)
    assert np.array_equal(pixels_of(read_image(path)), grey(RAMP_8))


def test_a_dark_sixteen_bit_image_stays_dark(tmp_path: Path) -> None:
    dark = (RAMP // 3).astype(np.uint16)  # a third of the range: 15 bits, so all 16 are meant
    for suffix in (".png", ".pgm", ".tif"):
        Image.fromarray(dark).save(tmp_path / f"dark{suffix}")
        picture = read_picture(tmp_path / f"dark{suffix}")
        assert np.array_equal(pixels_of(picture.image), grey(np.rint(dark / 257).astype(np.uint8)))
        assert picture.notes == ()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_fewer_bits_in_sixteen_are_stretched_and_said(tmp_path: Path, bits: int, suffix: str) -> None:
    values = (RAMP >> (16 - bits)).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(values).save(path)
    picture = read_picture(path)
    expected = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    assert np.array_equal(pixels_of(picture.image), grey(expected))
    assert picture.notes == (
        f"its values up to {2**bits - 1} are read as {bits} bits and stretched; "
        "a range reads all pictures alike.",
    )
    assert np.array_equal(pixels_of(read_image(values)), grey(expected))


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 65535, 32896, 0, 257, 514, 771)
    (tmp_path / "deep.png").write_bytes(png(2, 1, 16, 2, row))
    assert pixels_of(read_image(tmp_path / "deep.png")).tolist() == [[[255, 128, 0], [1, 2, 3]]]


def test_sixteen_bit_grey_with_alpha_is_scaled(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 4095, 65535, 2048, 65535, 1000, 0)
    (tmp_path / "deep.png").write_bytes(png(3, 1, 16, 4, row))
    picture = read_picture(tmp_path / "deep.png")
    assert pixels_of(picture.image).tolist() == [[[255] * 3, [128] * 3, [255] * 3]]
    assert "read as 12 bits" in picture.notes[0]
    bright = b"\0" + struct.pack(">4H", 65535, 65535, 32896, 65535)
    (tmp_path / "bright.png").write_bytes(png(2, 1, 16, 4, bright))
    assert pixels_of(read_image(tmp_path / "bright.png")).tolist() == [[[255] * 3, [128] * 3]]
    ranged = read_picture(tmp_path / "bright.png", ReadOptions(range=(0, 65535))).image
    assert pixels_of(ranged).tolist() == [[[255] * 3, [128] * 3]]


@pytest.mark.parametrize(("top", "factor"), [(1.0, 255), (255.0, 1), (65535.0, 1 / 257)])
def test_float_images_are_read_by_their_range(tmp_path: Path, top: float, factor: float) -> None:
    values = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "float.tif")
    expected = np.rint(values.astype(np.float64) * factor).astype(np.uint8)
    assert np.array_equal(pixels_of(read_image(tmp_path / "float.tif")), grey(expected))


def test_one_float_above_1_does_not_make_a_picture_black(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    expected = grey(np.rint(values.astype(np.float64) * 255).astype(np.uint8))
    values[-1, -1] = 1.03
    Image.fromarray(values).save(tmp_path / "overshot.tif")
    found = read_picture(tmp_path / "overshot.tif")
    assert np.array_equal(pixels_of(found.image), expected)
    assert found.notes == ("its values up to 1.03 are read as 0 to 1; a range reads all pictures alike.",)


@pytest.mark.parametrize(("top", "bits"), [(2.0, 8), (255.0, 8), (65535.0, 16)])
def test_floats_that_are_read_as_whole_numbers_are_noted(tmp_path: Path, top: float, bits: int) -> None:
    Image.fromarray(np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "float.tif")
    note = f"its values up to {top:g} are read as whole numbers of {bits} bits; "
    assert read_picture(tmp_path / "float.tif").notes == (note + "a range reads all pictures alike.",)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "inks.tif")
    found = pixels_of(read_image(tmp_path / "inks.tif")).tolist()
    assert found == [[[255, 255, 255], [0, 255, 255], [255, 0, 255], [0, 0, 0]]]
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    flat.save(tmp_path / "red.jpg", quality=100)
    assert np.abs(pixels_of(read_image(tmp_path / "red.jpg")).astype(int) - [255, 0, 0]).max() <= 2


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    for suffix in (".png", ".gif", ".bmp"):
        image.save(tmp_path / f"palette{suffix}")
        assert pixels_of(read_image(tmp_path / f"palette{suffix}")).tolist() == [
            [[10, 20, 30], [200, 100, 50]]
        ]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    for suffix in (".png", ".tif"):
        Image.fromarray(pixels).save(tmp_path / f"alpha{suffix}")
        found = pixels_of(read_image(tmp_path / f"alpha{suffix}")).tolist()
        assert found == [[[200, 0, 0], [255, 255, 255], [127, 127, 127]]]


def test_grey_with_alpha_and_palette_with_transparency_lie_over_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert pixels_of(read_image(tmp_path / "la.png")).tolist() == [[[90] * 3, [255] * 3]]
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "one.png", transparency=1)
    image.save(tmp_path / "bytes.png", transparency=bytes([255, 0, 128]))  # Pillow warns of this form
    assert pixels_of(read_image(tmp_path / "one.png")).tolist() == [[[10, 20, 30], [255] * 3, [0] * 3]]
    assert pixels_of(read_image(tmp_path / "bytes.png")).tolist() == [[[10, 20, 30], [255] * 3, [127] * 3]]
    Image.new("RGB", (1, 1), (5, 6, 7)).save(tmp_path / "key.png", transparency=(5, 6, 7))
    assert pixels_of(read_image(tmp_path / "key.png")).tolist() == [[[255] * 3]]


def sixteen_bits(*values: int) -> bytes:
    return b"\0" + b"".join(struct.pack(">3H", value, value, value) for value in values)


@pytest.mark.parametrize(
    ("bits", "colour", "row", "clear", "expected"),
    [
        (1, 0, b"\0\x40", (0,), [255, 255]),
        (2, 0, b"\0\x1b", (1,), [0, 255, 170, 255]),
        (4, 0, b"\0\x2f\x30", (2,), [255, 255, 51]),
        (8, 0, b"\0\0\x64", (0,), [255, 100]),
        (16, 2, sixteen_bits(0x8000, 0xFF00, 0), (0x8000,) * 3, [255, 254, 0]),
        (16, 2, sixteen_bits(0x8000, 1, 0), (0,) * 3, [128, 0, 255]),
        (16, 2, sixteen_bits(2048, 4095, 0), (4095,) * 3, [128, 255, 0]),
        (16, 2, sixteen_bits(2048, 4095, 0), (0,) * 3, [128, 255, 255]),
    ],
)
def test_the_clear_colour_of_a_png_lies_over_white_in_any_depth(
    bits: int, colour: int, row: bytes, clear: tuple[int, ...], expected: list[int]
) -> None:
    data = png(len(expected), 1, bits, colour, row, (b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    for source in (data, Image.open(io.BytesIO(data))):
        assert pixels_of(read_image(source)).tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_exif_turns_are_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = picture(0)
    # how a camera stores the picture; the inverse of what a viewer does
    stored = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p.transpose(1, 0, 2), 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](pixels_of(upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    assert np.array_equal(pixels_of(read_image(path)), pixels_of(upright))
    assert read_picture(path).size == upright.size


def test_a_sideways_tiff_is_prepared_upright(tmp_path: Path) -> None:
    folder = tmp_path / "tif" / "a"
    folder.mkdir(parents=True)
    for number in range(2):
        picture(number, 96, 64).save(folder / f"{number}.tif", tiffinfo={274: 6})
    pool = cached(pool_of("tif", read_table(tmp_path / "tif")), tmp_path / "cache")
    assert prepare(pool, ["reduced"], 16)[0] == 2
    stored = read_picture(folder / "0.tif")
    assert stored.size == stored.image.size == (64, 96)
    assert [one.shape for one in pool.table.pixels([0, 1], "reduced", 16)] == [(48, 32, 3)] * 2


def test_damaged_exif_does_not_hide_the_pixels(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "odd.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12")
    assert np.array_equal(pixels_of(read_image(tmp_path / "odd.png")), pixels_of(picture(1)))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"film{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(pixels_of(read_image(path)), pixels_of(frames[0]))


def test_one_pixel_one_bit_and_grey(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert pixels_of(read_image(tmp_path / "dot.png")).tolist() == [[[1, 2, 3]]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert pixels_of(read_image(tmp_path / "bit.png")).tolist() == [[[255] * 3, [0] * 3]]
    Image.fromarray(RAMP_8).save(tmp_path / "grey.png")
    assert np.array_equal(pixels_of(read_image(tmp_path / "grey.png")), grey(RAMP_8))


def test_an_extension_that_lies_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "really.jpg").write_bytes(encoded(picture(2), "PNG"))
    (tmp_path / "no_extension").write_bytes(encoded(picture(2), "BMP"))
    for name in ("really.jpg", "no_extension"):
        assert np.array_equal(pixels_of(read_image(tmp_path / name)), pixels_of(picture(2)))


def test_bytes_pil_images_and_arrays_are_images() -> None:
    rgb = picture(3)
    for source in (rgb, pixels_of(rgb), encoded(rgb, "PNG"), Image.open(io.BytesIO(encoded(rgb, "PNG")))):
        assert np.array_equal(pixels_of(read_image(source)), pixels_of(rgb))
    for source in (
        RAMP,
        RAMP[..., None],
        RAMP_8,
        RAMP_8.astype(int),
        RAMP_8 / 255,
        RAMP_8.astype(np.float32) / 255,
    ):
        assert np.array_equal(pixels_of(read_image(source)), grey(RAMP_8))
    assert pixels_of(read_image(np.array([[True, False]]))).tolist() == [[[255] * 3, [0] * 3]]
    assert pixels_of(read_image(np.array([[[0, 0, 0, 0]]], np.uint8))).tolist() == [[[255] * 3]]


def test_a_name_of_bytes_that_are_no_text_is_a_name_all_the_same(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        picture(4).save(path)
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    assert np.array_equal(pixels_of(read_image(path)), pixels_of(picture(4)))


# Refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_images_are_refused(tmp_path: Path, kind: str) -> None:
    whole = encoded(picture(5, 64, 64), kind)
    path = tmp_path / "cut"
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).startswith(f"{path}: ")
    assert "truncated or damaged" in refused(path) or "not an image" in refused(path)


def test_empty_missing_and_foreign_files_are_refused_each_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture\n" * 100)
    assert "the file is empty" in refused(tmp_path / "empty.png")
    assert "not an image in a known format" in refused(tmp_path / "text.png")
    assert "no such file" in refused(tmp_path / "missing.png")
    assert "this is a folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / ("long" * 100 + ".png"))
    assert "the file is empty" in refused(b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not an ordinary file" in refused(tmp_path / "pipe.png")


def test_images_over_a_hundred_megapixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(20000, 20000, 1, 0, b""))
    assert "over 100 megapixels; scale it down" in refused(tmp_path / "bomb.png")
    large = png(10001, 10000, 1, 0, b"")  # where Pillow would only warn
    assert "(10001 x 10000) is over 100 megapixels" in refused(large)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = Image.open(io.BytesIO(large))
    assert "(10001 x 10000) is over 100 megapixels" in refused(opened)
    many = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20000, 20000), (0, 0))
    assert "over 100 megapixels" in refused(many)


def test_a_tile_far_larger_than_its_picture_is_refused_before_room_is_made_for_it(tmp_path: Path) -> None:
    assert read_image(tiled((16, 16))).size == (10, 10)
    for sides in ([(20000, 20000)], [(20000, 20000), (16, 16)], [(16, 16), (20000, 20000)]):
        (tmp_path / "tiles.tif").write_bytes(tiled(*sides))
        assert "its tiles of 400,000,000 pixels are far larger than its 10 x 10" in refused(
            tmp_path / "tiles.tif"
        )


def test_the_header_alone_says_format_and_size(tmp_path: Path) -> None:
    (tmp_path / "really.jpg").write_bytes(png(8000, 6000, 8, 2, b""))  # no pixels at all
    assert read_header(tmp_path / "really.jpg") == Header("PNG", 8000, 6000)
    for rare in (b"P3 1 1 255 1 2 3 ", b"P5 1001 1000 4095 " + bytes(2_002_000)):
        assert "packed in a rare way that takes long to read; save it as PNG" in refused(rare)
    assert read_image(b"P5 2 1 4095 \x0f\xff\x00\x00").size == (2, 1)  # 12 bits, as cameras write
    with pytest.raises(UnreadableImage, match=r"\(8000 x 6000\) is over 1\.5 megapixels"):
        read_header(tmp_path / "really.jpg", most_pixels=1_500_000)
    with pytest.raises(UnreadableImage, match="is over 1 megapixels"):
        read_header(png(60000, 60000, 1, 0, b""), most_pixels=1_000_000)  # where Pillow itself refuses


def test_code_of_other_formats_never_sees_the_bytes(tmp_path: Path) -> None:
    for source in (encoded(picture(2), "PCX"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        (tmp_path / "other").write_bytes(source)
        for read in (read_image, read_header):
            with pytest.raises(UnreadableImage, match="not an image in a known format"):
                read(tmp_path / "other")


def test_the_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading.MOST_PIXELS == 100_000_000
    monkeypatch.setattr(reading, "MOST_PIXELS", 24 * 20)
    assert read_image(picture(0, 24, 20)).size == (24, 20)
    assert "25 x 20" in refused(picture(0, 25, 20))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 8, 8), np.uint8), "shape is (3, 8, 8)"),
        (np.zeros((8, 8, 2), np.uint8), "shape is (8, 8, 2)"),
        (np.zeros((0, 8), np.uint8), "shape is (0, 8)"),
        (np.zeros(8), "shape is (8,)"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.full((2, 2), 255.0), "from 255 to 255"),
        (np.full((2, 2), -1), "from -1 to -1"),
        (np.full((2, 2), 256), "from 256 to 256"),
        (np.full((2, 2), 1j), "type is complex128"),
        (np.full((2, 2), "a"), "type is <U1"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray, words: str) -> None:
    assert words in refused(array)


def test_values_beyond_sixteen_bits_are_stretched_over_their_range_and_said(tmp_path: Path) -> None:
    for number, values in enumerate(([0.0, 35000.0, 70000.0], [-1.0, 2.0, 5.0], [-1e30, 0.0, 1e30])):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(np.array([values], np.float32)).save(path)
        picture = read_picture(path)
        assert pixels_of(picture.image)[0, :, 0].tolist() == [0, 128, 255]
        assert f"its values from {values[0]:g} to {values[2]:g} are stretched" in picture.notes[0]
    Image.fromarray(np.array([[np.inf, 0.0]], np.float32)).save(tmp_path / "inf.tif")
    assert refused(tmp_path / "inf.tif").startswith(
        f"{tmp_path / 'inf.tif'}: it has values that are not finite"
    )


def test_an_opened_image_that_cannot_be_decoded_is_refused() -> None:
    cut = encoded(picture(6, 64, 64), "PNG")[:5000]
    assert "truncated or damaged" in refused(Image.open(io.BytesIO(cut)))
    with pytest.raises(UnreadableImage):
        image_id(Image.open(io.BytesIO(cut)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_damage_anywhere_is_read_or_refused_and_nothing_else(kind: str) -> None:
    whole = np.frombuffer(encoded(picture(7, 32, 32), kind), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        places = generator.integers(0, min(len(damaged), generator.choice([40, 400, 10**9])), 6)
        damaged[places] = generator.integers(0, 256, 6)
        try:
            read_image(damaged.tobytes())
        except UnreadableImage as error:
            assert "an image in memory: " in str(error)


# Around it -----------------------------------------------------------------------------------------------


def test_pillows_warnings_become_nothing_and_ours_come_back(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([1, 2, 3])
    image.save(tmp_path / "warns.png", transparency=bytes([0, 128]))
    before = warnings.filters[:]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [tmp_path / "warns.png"] * 200))
    assert warnings.filters == before


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(8).save(tmp_path / name)
    picture(9).save(tmp_path / "c.png")
    ids = [image_id(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert ids[0] == ids[1] != ids[2]
    assert image_id((tmp_path / "a.png").read_bytes()) == ids[0]
    assert image_id(picture(8)) == image_id(picture(8)) != image_id(picture(9))
    assert image_id(RAMP_8) != image_id(RAMP_8.reshape(8, 32))
    with pytest.raises(UnreadableImage, match=r"missing\.png: cannot be read"):
        image_id(tmp_path / "missing.png")


def test_colour_profiles_do_not_matter(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(10).save(tmp_path / "profile.png", icc_profile=profile)
    assert np.array_equal(pixels_of(read_image(tmp_path / "profile.png")), pixels_of(picture(10)))


def test_jpeg_2000_is_read(tmp_path: Path) -> None:
    picture(5).save(tmp_path / "a.jp2", irreversible=False)
    assert np.array_equal(pixels_of(read_image(tmp_path / "a.jp2")), pixels_of(picture(5)))
