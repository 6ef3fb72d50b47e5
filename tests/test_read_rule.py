"""One rule by which images of many bits, bands and pages are read, in farshot and in its exports."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot import FewShotClassifier, load
from farshot.data import table as table_module
from farshot.data.readers import unlabelled
from farshot.data.table import ReadingNote
from farshot.errors import ModelError, SettingError
from farshot.export.onnx_file import export_onnx
from farshot.images import READ_BY
from farshot.images.decode import DRAFT_PIXELS
from farshot.images.identity import content_id
from farshot.images.kinds import kind_of
from farshot.images.options import ReadOptions
from farshot.images.preprocess import prepare, wanted_side
from farshot.images.reading import UnreadableImage, read_header, read_image, read_picture
from farshot.model.catalogue import TOY_NOTE
from farshot.model.features import image_features
from tests.image_bytes import encoded, png, tiff
from tests.input_helpers import Farshot, picture, pixels_of

ALIKE = "a range reads all pictures alike."


def stored(
    values: np.ndarray, *, planar: bool = False, colours: int = 1, extra: int | None = 0, **tags
) -> bytes:
    """An uncompressed or deflated TIFF (height, width, bands), byte by byte.

    Args:
        planar: every band by itself.
        colours: 1 grey, 3 RGB.
        extra: what the bands beyond the colours are called; None leaves the tag out.
        tags: "deflate" and "predictor", true or false; "order", "<" or ">".
    """
    height, width, bands = values.shape
    order = tags.get("order", "<")
    shown = values
    if tags.get("predictor"):
        shown = np.diff(values, axis=1, prepend=values[:, :1] * 0).astype(values.dtype)
    data = shown.astype(values.dtype.newbyteorder(order))
    parts = [data[..., band].tobytes() for band in range(bands)] if planar else [data.tobytes()]
    if tags.get("deflate"):
        parts = [zlib.compress(part) for part in parts]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = [8 * values.itemsize] * bands
    lists = {
        256: [width],
        257: [height],
        258: bits,
        259: [8 if tags.get("deflate") else 1],
        262: [2 if colours == 3 else 1],
        277: [bands],
        278: [height],
        284: [2 if planar else 1],
        317: [2 if tags.get("predictor") else 1],
        339: [kind] * bands,
    }
    if extra is not None and bands > colours:
        lists[338] = [extra] * (bands - colours)
    start = 8
    offsets = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
    lists |= {273: offsets, 279: [len(part) for part in parts]}
    body = b"".join(parts)
    place = start + len(body) + len(body) % 2
    behind = place + 2 + 12 * len(lists) + 4
    entries, arrays = b"", b""
    for tag in sorted(lists):
        packed = struct.pack(f"{order}{len(lists[tag])}I", *lists[tag])
        here = packed if len(packed) == 4 else struct.pack(order + "I", behind + len(arrays))
        entries += struct.pack(order + "HHI", tag, 4, len(lists[tag])) + here
        arrays += packed if len(packed) > 4 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return (
        head
        + body
        + bytes(len(body) % 2)
        + struct.pack(order + "H", len(lists))
        + entries
        + bytes(4)
        + arrays
    )


def random(*shape: int, dtype: str = "uint16", top: int = 65535, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)
    values.flat[0], values.flat[-1] = 0, top
    return values


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(np.float64) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


# Bands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("planar", "deflate", "predictor"),
    [
        (True, False, False),
        (True, True, True),
        (False, False, False),
        (False, True, False),
        (False, True, True),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"])
def test_three_bands_of_many_are_read_as_they_are_stored(order, planar, deflate, predictor, dtype) -> None:
    if dtype.startswith("float") and predictor:
        pytest.skip("differences are of whole numbers")
    top = 255 if dtype == "uint8" else 2000
    values = random(9, 7, 13, dtype=dtype, top=top)
    data = stored(values, planar=planar, deflate=deflate, predictor=predictor, order=order)
    found = read_picture(data, ReadOptions(range=(0, top), bands=(4, 3, 13)))
    assert np.array_equal(pixels_of(found.image), scaled(values[..., [3, 2, 12]], 0, top))
    assert found.notes == ()


def test_many_bands_without_a_choice_are_one_sentence_that_names_the_option() -> None:
    data = stored(random(4, 4, 13, top=3000), planar=True)
    with pytest.raises(UnreadableImage, match=r"it has 13 bands, .* such as --bands 4 3 2 \(in Python"):
        read_image(data)
    with pytest.raises(UnreadableImage, match="it has no band 14, only 13"):
        read_image(data, options=ReadOptions(bands=(1, 2, 14)))
    with pytest.raises(UnreadableImage, match="it has no band 4, only 3"):
        read_image(picture(1), options=ReadOptions(bands=(4, 3, 2)))


def test_bands_of_an_ordinary_picture_may_be_chosen_too() -> None:
    found = pixels_of(read_image(picture(1), options=ReadOptions(bands=(3, 2, 1))))
    assert np.array_equal(found, pixels_of(picture(1))[..., ::-1])


def test_bands_are_chosen_of_arrays_too() -> None:
    for values in (random(6, 5, 3, dtype="uint8", top=255), random(6, 5, 3)):
        whole = pixels_of(read_image(values))
        assert np.array_equal(
            pixels_of(read_image(values, options=ReadOptions(bands=(3, 2, 1)))), whole[..., ::-1]
        )


def test_grey_that_is_white_at_zero_stays_so_where_bands_are_chosen() -> None:
    black, entry = stored(random(6, 5, 1)), struct.pack("<H", 262)
    place = black.index(entry + struct.pack("<H", 4)) + 8
    white = black[:place] + bytes(4) + black[place + 4 :]
    wanted = 255 - pixels_of(read_image(black))
    for options in (ReadOptions(), ReadOptions(bands=(1, 1, 1))):
        assert np.array_equal(pixels_of(read_image(white, options=options)), wanted)


@pytest.mark.parametrize("bands", [1, 3])
def test_negative_values_of_8_bits_are_stretched_and_said(bands: int) -> None:
    values = np.repeat(np.array([[[-5], [0], [100]]], dtype=np.int8), bands, axis=2)
    found = read_picture(stored(values, colours=bands))
    assert pixels_of(found.image)[0, :, 0].tolist() == [0, 12, 255]
    assert "from -5 to 100 are stretched" in found.notes[0]
    ranged = read_image(stored(values, colours=bands), options=ReadOptions(range=(0, 100)))
    assert pixels_of(ranged)[0, :, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("largest", [3000, 4095, 65535])
def test_a_range_is_of_the_values_that_a_ppm_stores(largest: int, colours: int) -> None:
    values = random(6, 5, colours, top=3000)
    head = f"P{5 if colours == 1 else 6} # a remark\n5 6 {largest}\n".encode()
    file = head + values.astype(">u2").tobytes()
    found = read_picture(file, ReadOptions(range=(0, 3000)))
    assert np.array_equal(pixels_of(found.image), np.broadcast_to(scaled(values, 0, 3000), (6, 5, 3)))
    plain = read_picture(file)
    white = 4095 if largest == 65535 else largest
    assert np.abs(pixels_of(plain.image).astype(int) - scaled(values, 0, white)).max() <= 1
    assert bool(plain.notes) == (largest == 65535)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("extra", [None, 0])
def test_a_fourth_band_that_is_not_called_transparency_is_left_out_and_said(dtype, extra) -> None:
    values = random(6, 5, 4, dtype=dtype, top=np.iinfo(dtype).max)
    found = read_picture(stored(values, colours=3, extra=extra))
    assert np.array_equal(pixels_of(found.image), scaled(values[..., :3], 0, np.iinfo(dtype).max))
    assert found.notes == ("it has 4 bands; red, green and blue are read and band 4 left out.",)


def test_a_second_band_of_grey_is_left_out_and_three_unnamed_bands_are_colours() -> None:
    values = random(6, 5, 2, dtype="uint8", top=255)
    found = read_picture(stored(values))
    assert np.array_equal(pixels_of(found.image), np.repeat(values[..., :1], 3, axis=2))
    assert found.notes == ("it has 2 bands; grey is read and band 2 left out.",)
    three = random(6, 5, 3)
    found = read_picture(stored(three))
    assert np.array_equal(pixels_of(found.image), scaled(three, 0, 65535))
    assert "they are read as red, green and blue" in found.notes[0]


def test_deep_transparency_lies_over_white() -> None:
    values = random(1, 3, 4)
    values[0] = [[65535, 0, 0, 65535], [65535, 0, 0, 0], [0, 0, 0, 32896]]
    found = read_picture(stored(values, colours=3, extra=2))
    assert pixels_of(found.image).tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    assert found.notes == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_the_grey_value_of_a_png_that_is_clear_lies_over_white(bits: int) -> None:
    rows = np.array([[0, 200], [200, 0]]) * (257 if bits == 16 else 1)
    data = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in rows)
    found = read_image(png(2, 2, bits, 0, data, (b"tRNS", bytes(2))))
    assert pixels_of(found)[..., 0].tolist() == [[255, 200], [200, 255]]


@pytest.mark.parametrize("order", "<>")
def test_transparency_of_an_array_has_its_own_range_in_any_byte_order(order: str) -> None:
    values = random(6, 5, 4, top=4000).astype(f"{order}u2")
    values[..., 3] = 65535
    values[0, 0, :3] = 4000
    found, wanted = read_picture(values), read_picture(values[..., :3])
    assert np.array_equal(pixels_of(found.image), scaled(values[..., :3], 0, 4095))
    assert np.array_equal(pixels_of(found.image), pixels_of(wanted.image))
    assert found.notes == wanted.notes != ()
    values[0, 0, 3] = 0
    ranged = pixels_of(read_image(values, options=ReadOptions(range=(0, 2000))))
    assert ranged[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(ranged[1:], scaled(values[1:, :, :3], 0, 2000))


def test_an_opened_tiff_is_read_at_its_page_or_refused(tmp_path: Path) -> None:
    pages = [picture(number) for number in (1, 2)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "two.tif") as image:
        with pytest.raises(
            UnreadableImage, match="open at page 1, not 2; give the file, or turn to the page"
        ):
            read_image(image, options=ReadOptions(page=2))
        image.seek(1)
        assert np.array_equal(pixels_of(read_image(image, options=ReadOptions(page=2))), pixels_of(pages[1]))


def test_bands_that_cannot_be_read_say_why() -> None:
    odd = stored(random(4, 4, 5)).replace(
        struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 7)
    )
    with pytest.raises(UnreadableImage, match="compressed by JPEG; export it uncompressed or with deflate"):
        read_image(odd, options=ReadOptions(bands=(1, 2, 3)))
    with pytest.raises(UnreadableImage, match="its samples have 64 bits; export it with 8 or 16 bits"):
        read_image(stored(random(4, 4, 5).astype(np.uint64)), options=ReadOptions(bands=(1, 2, 3)))


@pytest.mark.parametrize("options", [ReadOptions(), ReadOptions(bands=(3, 1, 2))])
def test_damaged_bands_are_read_or_refused_and_nothing_else(options, capfd) -> None:
    whole = np.frombuffer(stored(random(16, 16, 4), colours=3, deflate=True, predictor=True), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = whole.copy()
        damaged[generator.integers(0, len(damaged), 6)] = generator.integers(0, 256, 6)
        try:
            read_image(damaged.tobytes(), options=options)
        except UnreadableImage as error:
            assert str(error).endswith(".")
    assert capfd.readouterr().err == ""


# Depth ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("bands", [3, 4])
def test_deep_colour_of_fewer_bits_is_stretched_in_full_precision(bits: int, bands: int) -> None:
    top = 2**bits - 1
    values = random(16, 16, bands, top=top)
    values[0, 0] = top
    if bands == 4:
        values[..., 3] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    deep_png = png(16, 16, 16, 2 if bands == 3 else 6, rows)
    note = f"its values up to {top} are read as {bits} bits and stretched; {ALIKE}"
    for data in (deep_png, stored(values, colours=3, extra=2)):
        found = read_picture(data)
        difference = np.abs(pixels_of(found.image).astype(int) - scaled(values[..., :3], 0, top))
        assert difference.max() <= (1 if bits == 16 else 0)  # Pillow drops the lower 8 of 16 bits
        assert found.notes == ((note,) if bits < 16 else ())


def test_a_range_reads_deep_pictures_alike_and_leaves_others(tmp_path: Path) -> None:
    options = ReadOptions(range=(-1000, 1000))
    values = np.array([[-2000.0, -1000.0, 0.0, 1000.0, 2000.0]], np.float32)
    for kind in (np.float32, np.int32):
        Image.fromarray(values.astype(kind)).save(tmp_path / "deep.tif")
        found = read_picture(tmp_path / "deep.tif", options)
        assert pixels_of(found.image)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
        assert found.notes == ()
        assert np.array_equal(
            pixels_of(read_image(values.astype(kind), options=options)), pixels_of(found.image)
        )
    assert np.array_equal(pixels_of(read_image(picture(1), options=options)), pixels_of(picture(1)))
    rows = b"\0" + struct.pack(">6H", 0, 500, 1000, 2000, 250, 65535)
    found = read_image(png(2, 1, 16, 2, rows), options=ReadOptions(range=(0, 1000)))
    assert pixels_of(found).tolist() == [[[0, 128, 255], [255, 64, 255]]]


def test_the_largest_value_that_a_tiff_declares_counts() -> None:
    values = random(4, 4, 1, top=900)
    packed = stored(values).replace(struct.pack("<HHII", 317, 4, 1, 1), struct.pack("<HHII", 281, 4, 1, 4095))
    found = read_picture(packed)
    assert np.array_equal(pixels_of(found.image)[..., 0], scaled(values[..., 0], 0, 4095))
    assert "read as 12 bits" in found.notes[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"range": (1, 1)}, "is empty"),
        ({"range": (0, float("nan"))}, "is empty"),
        ({"range": (0,)}, "range must be 2 numbers"),
        ({"range": "wide"}, "range must be 2 numbers"),
        ({"bands": (0, 1, 2)}, "whole numbers from 1"),
        ({"bands": (1.5, 1, 2)}, "whole numbers from 1"),
        ({"bands": (1, 2)}, "bands must be 3 numbers"),
        ({"band": (1, 2, 3)}, "it takes range, bands and page"),
        ({"page": 0}, "page 0 must be a whole number from 1"),
        ({"page": "x"}, "page .x. must be a whole number from 1"),
    ],
)
def test_options_that_cannot_be_are_refused(values, words) -> None:
    with pytest.raises(SettingError, match=words):
        FewShotClassifier("mini", "zero-shot", read_options=values).fit([picture(1), picture(2)], ["a", "b"])


# Pages, text, drafts, kinds ------------------------------------------------------------------------------


def test_pages_and_frames_that_are_left_out_are_said(tmp_path: Path) -> None:
    frames = [picture(number) for number in range(3)]
    for suffix, words in (
        (".tif", "it has 3 pages; the first is read (--page chooses another)."),
        (".gif", "it is an animation;"),
    ):
        path = tmp_path / f"film{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert read_picture(path).notes[0].startswith(words)
    frames[0].save(tmp_path / "one.tif")
    assert read_picture(tmp_path / "one.tif").notes == ()


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_with_much_text_or_a_large_profile_is_read(kind: bytes) -> None:
    packed = zlib.compress(bytes(2_000_000))
    data = b"k\0\1\0\0\0" + packed if kind == b"iTXt" else b"k\0\0" + packed
    file = png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", (kind, data))
    assert pixels_of(read_image(file)).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert (read_header(file).width, read_header(file).height) == (2, 1)


def test_text_behind_the_pixels_and_much_of_it_does_no_harm() -> None:
    many = [(b"tEXt", b"k\0" + b"x" * 1_000_000)] * 70
    file = png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", *many)
    assert pixels_of(read_image(file)).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    cut = file[: file.index(b"IDAT") + 6]
    with pytest.raises(UnreadableImage, match="truncated or damaged"):
        read_image(cut)


def photograph(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Soft colours with noise."""
    generator = np.random.default_rng(3)
    coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = generator.integers(-12, 13, (height, width, 1))
    return Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("reading", ["squash", "centre"])
@pytest.mark.parametrize(("mode", "turn"), [("RGB", 1), ("RGB", 6), ("CMYK", 8), ("L", 3)])
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(reading: str, mode: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photograph(2600, 1950, mode), "JPEG", quality=90, exif=exif)
    whole, draft = read_picture(data), read_picture(data, wanted=wanted_side(reading, 224))
    assert whole.size == whole.image.size == draft.size
    assert min(draft.image.size) < min(whole.size)
    wanted = wanted_side(reading, 224)
    assert wanted is not None
    assert min(draft.image.size) >= 2 * wanted
    pixels = [prepare(picture.image, reading, 224).astype(int) for picture in (whole, draft)]
    difference = np.abs(pixels[0] - pixels[1])
    assert difference.mean() < 1
    assert difference.max() <= 12


def test_a_large_jpeg_that_the_caller_opened_keeps_its_size() -> None:
    file = io.BytesIO(encoded(photograph(2600, 1950), "JPEG"))
    image = Image.open(file)
    assert read_picture(image, wanted=224).image.size == image.size == (2600, 1950)
    assert content_id(image) == content_id(file.getvalue())


@pytest.mark.parametrize("reading", ["reduced", "shortest-bicubic", "shortest256-bicubic-floor"])
def test_readings_that_are_exact_ask_for_no_draft(reading: str) -> None:
    assert wanted_side(reading, 224) is None


def test_pictures_of_the_published_pools_are_decoded_whole() -> None:
    small = encoded(photograph(1999, 2000), "JPEG")
    assert DRAFT_PIXELS >= 1999 * 2000
    assert read_picture(small, wanted=64).image.size == (1999, 2000)
    narrow = encoded(photograph(20_000, 250), "JPEG")
    assert read_picture(narrow, wanted=64).image.size == (20_000, 250)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\0\0\0\x18ftypheic", "a HEIC photograph"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"<?xml version='1.0'?><svg xmlns=", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer"),
        (b"%PDF-1.7", "a PDF document"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a camera's RAW photograph"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's RAW photograph"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (b"PK\3\4", "a zip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\xff\x0a\xfa", "a JPEG XL picture"),
        (b"8BPS", "a Photoshop document"),
    ],
)
def test_the_format_and_the_way_out_are_named(head: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(head + bytes(200))
    for read in (read_image, read_header)[: 1 + (what != "an HDF5 file")]:  # whose header Pillow takes
        with pytest.raises(UnreadableImage, match=rf"x\.jpg: this is {what}") as error:
            read(tmp_path / "x.jpg")
        assert str(error.value).endswith(".")
    assert (kind_of(head + bytes(200)) or ("",))[0].startswith(what)


def test_the_thumbnail_of_a_raw_photograph_is_not_taken_for_it() -> None:
    pixels = bytes(range(100))
    tags = [(256, 10), (257, 10), (258, 8), (259, 1), (262, 1), (273, 150), (277, 1), (278, 10), (279, 100)]
    whole = tiff(*tags, (50706, 1), data=bytes(20) + pixels)
    with pytest.raises(UnreadableImage, match="a camera's RAW photograph; export it as JPEG or TIFF"):
        read_image(whole)
    with pytest.raises(UnreadableImage, match="RAW photograph"):
        read_image(tiff(*tags, (254, 1), (330, 8), data=bytes(20) + pixels))


def test_nothing_of_pillow_and_libtiff_reaches_the_error_stream(tmp_path: Path) -> None:
    """In a separate process, without the handlers of pytest; other output of threads comes back."""
    whole = bytearray(encoded(picture(5, 64, 64), "TIFF", compression="tiff_adobe_deflate"))
    whole[300:600] = bytes(300)
    (tmp_path / "broken.tif").write_bytes(whole)
    (tmp_path / "bands.tif").write_bytes(stored(random(8, 8, 13), planar=True))
    program = (
        "import sys\nfrom farshot.images.reading import read_image\n"
        "for path in sys.argv[1:]:\n    try:\n        read_image(path)\n"
        "    except ValueError as error:\n        print(error)\n"
        "print('still here', file=sys.stderr)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "broken.tif", tmp_path / "bands.tif"],
        env={**os.environ, "PYTHONPATH": str(Path(table_module.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == "still here\n"
    assert "truncated or damaged" in told.stdout
    assert "it has 13 bands" in told.stdout


# The table, the model and the export ---------------------------------------------------------------------


def deep_folder(folder: Path, count: int = 3) -> list[Path]:
    """12-bit pictures in 16 bits, dark and bright ones."""
    paths = []
    for number in range(count):
        for label, top in (("dark", 1000), ("bright", 4095)):
            path = folder / label / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random(40, 40, top=top, seed=number)).save(path)
            paths.append(path)
    return paths


def test_a_note_is_given_once_for_all_images_that_it_is_about(tmp_path: Path) -> None:
    paths = deep_folder(tmp_path)
    table = unlabelled(paths)
    with pytest.warns(ReadingNote) as told:
        table.check_readable().pixels(range(len(table)), "squash", 16)
    table_again = [str(one.message) for one in told]
    assert len(table_again) == 2
    assert table_again[0].startswith(
        f"3 images, the first {tmp_path / 'dark' / '0.tif'}: its values up to 1000"
    )
    assert "read as 12 bits" in table_again[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.subset([0, 1]).pixels([0, 1], "centre", 16)


def test_no_file_is_decoded_twice(tmp_path: Path, farshot: Farshot, monkeypatch) -> None:
    decoded: list[str] = []
    original = table_module.read_picture
    monkeypatch.setattr(
        table_module, "read_picture", lambda s, *a, **k: decoded.append(str(s)) or original(s, *a, **k)
    )
    paths = [tmp_path / "data" / name / f"{n}.png" for name in ("a", "b") for n in range(4)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    base = ("adapt", tmp_path / "data", "--model", "mini", "--estimate")
    methods = (
        ("linear-probe", "--set", "reading=centre"),
        ("prompt-lora", "--set", "steps=1", "--set", "views=none"),
    )
    for number, (method, *settings) in enumerate(methods):
        out = tmp_path / f"adapted {number}"
        for command in (
            (*base, "--out", out, "--method", method, *settings),
            ("predict", out, tmp_path / "data"),
            ("evaluate", out, tmp_path / "data", "--include-support"),
        ):
            decoded.clear()
            assert farshot(*map(str, command)).code == 0
            assert sorted(decoded) == sorted(map(str, paths))


def test_options_are_saved_and_prediction_reads_as_training_did(tmp_path: Path) -> None:
    bands = {name: stored(random(24, 24, 13, top=3000, seed=n), planar=True) for n, name in enumerate("abcd")}
    paths = []
    for name, data in bands.items():
        paths.append(tmp_path / f"{name}.tif")
        paths[-1].write_bytes(data)
    options = {"bands": (4, 3, 2), "range": (0, 3000)}
    made = FewShotClassifier("mini", "linear-probe", read_options=options).fit(paths, ["x", "y", "x", "y"])
    assert made.get_params()["read_options"] is options
    made.save(tmp_path / "adapted")
    about = json.loads((tmp_path / "adapted" / "farshot.json").read_text())["preprocessing"]
    assert (about["bands"], about["range"]) == ([4, 3, 2], [0, 3000])
    again = load(tmp_path / "adapted")
    assert again.read_options_ == ReadOptions(range=(0, 3000), bands=(4, 3, 2))
    rgb = [read_image(path, options=again.read_options_) for path in paths]
    plain = FewShotClassifier("mini", "linear-probe").fit(rgb, ["x", "y", "x", "y"])
    expected = plain.predict_proba(rgb)
    for model in (made, again):
        np.testing.assert_allclose(model.predict_proba(paths), expected, atol=1e-6)
    about = json.loads((tmp_path / "adapted" / "farshot.json").read_text())
    about["preprocessing"]["bands"] = [0, 1, 2]
    (tmp_path / "adapted" / "farshot.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "adapted")


def test_the_same_file_read_in_two_ways_has_two_features(mini_encoder, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(stored(random(16, 16, 5, top=3000)))
    table = unlabelled([tmp_path / "x.tif"])
    found = [
        image_features(mini_encoder, table.with_options(ReadOptions((0.0, top), (1, 2, 3))), [0])
        for top in (1000.0, 60000.0)
    ]
    assert not np.allclose(*found)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[FewShotClassifier, Path]:
    folder = tmp_path_factory.mktemp("exported")
    made = FewShotClassifier("mini", "linear-probe").fit([picture(n) for n in range(4)], ["a", "b", "a", "b"])
    made.save(folder / "adapted")
    export_onnx(made, folder / "out")
    return made, folder


def told_by_program(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """What predict.py says, where farshot and torch cannot be imported."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('farshot', 'torch', 'transformers'))); import runpy; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, folder / "predict.py", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def odd_files(folder: Path) -> list[Path]:
    """Pictures that were read wrongly by the program or not at all."""
    made = {
        "12.png": encoded(Image.fromarray(random(64, 64, top=4095)), "PNG"),
        "16.png": encoded(Image.fromarray(random(64, 64)), "PNG"),
        "float.tif": encoded(Image.fromarray(random(64, 64).astype(np.float32) / 65535), "TIFF"),
        "hounsfield.tif": encoded(Image.fromarray(random(64, 64).astype(np.float32) / 32 - 1000), "TIFF"),
        "rgbn.tif": stored(random(64, 64, 4, dtype="uint8", top=255), colours=3, extra=None),
        "deep.tif": stored(random(64, 64, 3, top=1023), colours=3),
        "large.jpg": encoded(photograph(2600, 1950), "JPEG"),
        "cmyk.jpg": encoded(photograph(100, 80, "CMYK"), "JPEG"),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


@pytest.mark.slow
def test_the_exported_program_reads_as_farshot_does(exported, tmp_path: Path) -> None:
    made, folder = exported
    files = odd_files(tmp_path)
    told = told_by_program(folder / "out", *files)
    assert told.returncode == 0
    with pytest.warns(ReadingNote):
        expected = made.predict_proba(files)
    with pytest.warns(ReadingNote):  # of another reading of the same files
        p_values = made.familiarity(files)
    for line, file, row, p in zip(told.stdout.splitlines(), files, expected, p_values, strict=True):
        certain = f"{100 * row.max():.1f} %" if made.calibrated_ else f"score {row.max():.3f}"
        assert line == f"{file}\t{made.classes_[row.argmax()]}\t{certain}\tp {p:.3f}"
    notes = told.stderr.splitlines()
    assert [note.split(": ")[1] for note in notes] == [
        str(tmp_path / name) for name in ("12.png", "hounsfield.tif", "rgbn.tif", "deep.tif")
    ]
    for name in READ_BY:  # word for word
        ours = Path(table_module.__file__).parents[1] / "images" / f"{name}.py"
        assert (folder / "out" / f"{name}.py").read_bytes() == ours.read_bytes()


@pytest.mark.slow
def test_the_exported_program_goes_on_at_a_bad_file_and_ends_with_1(exported, tmp_path: Path) -> None:
    _, folder = exported
    picture(1).save(tmp_path / "good.png")
    (tmp_path / "page.jpg").write_bytes(b"<html><body>404")
    (tmp_path / "bands.tif").write_bytes(stored(random(8, 8, 13), planar=True))
    bad = [tmp_path / "missing.png", tmp_path / "page.jpg", tmp_path / "bands.tif"]
    told = told_by_program(folder / "out", *bad, tmp_path / "good.png")
    assert told.returncode == 1
    assert told.stdout.startswith(f"{tmp_path / 'good.png'}\t")
    lines = told.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in bad]
    assert "no such file" in lines[0]
    assert "this is a web page" in lines[1]
    assert "it has 13 bands" in lines[2]


@pytest.mark.slow
def test_the_exported_program_keeps_range_and_bands(tmp_path: Path) -> None:
    for number in range(4):
        data = stored(random(24, 24, 13, top=3000, seed=number), planar=True)
        (tmp_path / f"{number}.tif").write_bytes(data)
    paths = [tmp_path / f"{number}.tif" for number in range(4)]
    options = ReadOptions(range=(0, 3000), bands=(4, 3, 2))
    made = FewShotClassifier("mini", "linear-probe", read_options=options).fit(paths, ["a", "b", "a", "b"])
    export_onnx(made, tmp_path / "out", unlabelled(paths))
    told = told_by_program(tmp_path / "out", *paths)
    assert (told.returncode, told.stderr) == (0, "")
    expected, p_values = made.predict_proba(paths), made.familiarity(paths)
    for line, row, p in zip(told.stdout.splitlines(), expected, p_values, strict=True):
        certain = f"{100 * row.max():.1f} %" if made.calibrated_ else f"score {row.max():.3f}"
        assert line.endswith(f"{made.classes_[row.argmax()]}\t{certain}\tp {p:.3f}")


# The command line ----------------------------------------------------------------------------------------


def test_the_command_line_takes_range_and_bands(tmp_path: Path, farshot: Farshot) -> None:
    for number, label in enumerate(("a", "b", "a", "b")):
        path = tmp_path / "data" / label / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored(random(24, 24, 13, top=3000, seed=number), planar=True))
    adapt = ("adapt", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--model", "mini")
    told = farshot(*adapt, "--method", "linear-probe")
    assert told.code == 2
    assert "it has 13 bands" in told.err
    assert "--bands 4 3 2" in told.err
    told = farshot(*adapt, "--method", "linear-probe", "--bands", "4", "3", "2", "--range", "0", "3000")
    assert told.code == 0
    assert told.err.count("Note") == 1 and TOY_NOTE in told.err
    for command in ("predict", "evaluate"):
        told = farshot(
            command,
            str(tmp_path / "out"),
            str(tmp_path / "data"),
            *(["--include-support"] * (command == "evaluate")),
        )
        assert told.code == 0 and told.err.count("\n") == told.err.count(TOY_NOTE) == (command == "predict")
    told = farshot("explain", str(tmp_path / "out"), str(tmp_path / "data"), "--out", str(tmp_path / "page"))
    assert told.code == 0
    told = farshot(*adapt, "--range", "3", "3")
    assert told.code == 2
    assert "--range" in told.err


FAULTS = (
    "12bit-in-16.png",
    "12bit-in-16.tif",
    "16bit-full.png",
    "float-0-to-1.tif",
    "float-hounsfield.tif",
    "8bit.png",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::farshot.data.table.ReadingNote")
def test_each_file_of_the_shared_faults_behaves_as_its_readme_says(
    real_images: Path, exported, farshot: Farshot
) -> None:
    faults = real_images.parent / "faults"
    if not faults.is_dir():
        pytest.skip(f"there is no folder {faults}")
    plain = pixels_of(read_image(faults / "8bit.png")).astype(int)
    for name in FAULTS:
        difference = np.abs(pixels_of(read_image(faults / name)).astype(int) - plain)
        assert difference.max() <= (6 if "hounsfield" in name else 1)
    window = read_image(faults / "float-hounsfield.tif", options=ReadOptions(range=(-1000, 1000)))
    assert np.abs(pixels_of(window).astype(int) - plain).max() <= 1
    _, folder = exported
    files = [faults / name for name in (*FAULTS, "4-bands-rgbn.tif", "3-pages.tif")]
    ours = farshot("predict", str(folder / "adapted"), *map(str, files))
    theirs = told_by_program(folder / "out", *files)
    assert (ours.code, theirs.returncode) == (0, 0)
    assert ours.out == theirs.stdout
    for words, count in {
        "12 bits": 2,
        "from -954.677 to 1000": 1,
        "band 4 left out": 1,
        "3 pages": 1,
    }.items():
        assert theirs.stderr.count(words) == count
        assert words in ours.err
    bad = faults / "13-bands-0-to-3000.tif"
    ours = farshot("predict", str(folder / "adapted"), str(bad), str(files[0]))
    theirs = told_by_program(folder / "out", bad, files[0])
    assert (ours.code, theirs.returncode) == (2, 1)
    assert "it has 13 bands" in ours.err
    assert theirs.stderr.splitlines()[0].startswith(f"{bad}: it has 13 bands")
    assert len(theirs.stdout.splitlines()) == 1


POSIX_ONLY = (
    *("pwrite", "pread", "fork", "sysconf", "sched_getaffinity", "getuid", "geteuid", "getgid", "mkfifo"),
    *(
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "statvfs",
        "chown",
        "fchmod",
        "setsid",
        "killpg",
        "getloadavg",
        "ftruncate64",
    ),
)


@pytest.mark.slow
def test_nothing_that_windows_lacks_is_needed(tmp_path: Path) -> None:
    """Adapting, saving, loading, predicting and the pool cache, in a process without it."""
    for number in range(4):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    program = f"""
import os, shutil, sys
from pathlib import Path
import torch, sklearn.linear_model, scipy.optimize, transformers  # before: others look for these themselves
from farshot import FewShotClassifier, load
from farshot.bench import worker
from farshot.data.cache import cached
from farshot.data.pools import open_pool
from farshot.model.features import memory_of_machine
from farshot.training.forecast import largest_size
for name in {POSIX_ONLY}:
    if hasattr(os, name):
        delattr(os, name)
shutil._use_fd_functions = False  # as on Windows
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))
place = Path({str(tmp_path)!r})
paths = sorted((place / "data").rglob("*.png"))
made = FewShotClassifier("mini", "zero-shot").fit(paths, [path.parent.name for path in paths])
made.save(place / "adapted")
assert (load(place / "adapted").predict_proba(paths) == made.predict_proba(paths)).all()
table = cached(open_pool(f"p={{place / 'data'}}"), place / "cache").table
assert (table.pixels([1, 3], "squash", 16) == table.pixels([1, 3], "squash", 16)).all()
assert memory_of_machine() > 0
assert largest_size() == 0
print("done")
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(table_module.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout == "done\n", told.stderr
