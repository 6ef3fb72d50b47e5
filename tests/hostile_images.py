"""Image files that are broken, larger than they look, or more than images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.image_bytes import encoded, png, tiff, tiled
from tests.input_helpers import picture
from tests.zip_bytes import Piece, zipped

Made = tuple[str, str, bytes, str, int]
"""Kind, name, bytes, words of the refusal, images taken."""

_LARGE = "megapixels; scale it down"
_DAMAGED = "truncated or damaged"
_UNKNOWN = "not an image in a known format"


def images() -> Iterator[Made]:
    """All of them."""
    yield from _broken()
    yield from _larger_than_they_look()
    yield from _more_than_images()


def _broken() -> Iterator[Made]:
    for number, kind in enumerate(("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")):
        whole = encoded(picture(number, 64, 64), kind)
        yield f"half a {kind}", f"half.{kind.lower()}", whole[: len(whole) // 2], _DAMAGED, 0
    yield "empty", "empty.png", b"", "the file is empty", 0
    yield "noise", "noise.png", picture(7).tobytes(), "no image in a format that is taken", 0
    yield "first bytes of a PNG alone", "first.png", b"\x89PNG\r\n\x1a\n", _UNKNOWN, 0
    yield "first bytes of a JPEG alone", "first.jpg", b"\xff\xd8\xff", _UNKNOWN, 0
    yield "a PNG without pixels", "none.png", png(0, 0, 8, 2, b""), _UNKNOWN, 0
    yield "a PNG of other bytes", "wrong.png", png(64, 64, 8, 2, b"")[:-20] + b"\0" * 20, _DAMAGED, 0
    yield "AVIF and then nothing", "a.avif", b"\0\0\0\x1cftypavif" + bytes(64), "an AVIF picture", 0
    absurd = tiff((256, 9), (257, 9), (258, 8), (259, 1), (262, 1), (273, 2**32 - 1), (279, 2**32 - 1))
    yield "a TIFF that points beyond itself", "far.tif", absurd, _DAMAGED, 0
    yield "a TIFF of a million entries", "many.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(800_000), _UNKNOWN, 0


def _larger_than_they_look() -> Iterator[Made]:
    yield "20000 x 20000 zeros", "zeros.png", png(20000, 20000, 1, 0, bytes(20000 * 2501)), _LARGE, 0
    yield "51 megapixels", "51.png", png(8500, 6000, 1, 0, b""), "(8500 x 6000) is over 50 megapixels", 0
    jpeg = encoded(picture(20), "JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    sides = struct.pack(">HH", 65500, 65500)
    yield "a JPEG of 4 gigapixels", "huge.jpg", jpeg[:place] + sides + jpeg[place + 4 :], _LARGE, 0
    gif = encoded(picture(21), "GIF")
    yield "a GIF's screen of 4 gigapixels", "s.gif", gif[:6] + b"\xff" * 4 + gif[10:], _LARGE, 0
    place = gif.index(b"\x2c\0\0\0\0") + 5
    yield "a GIF's frame beyond its screen", "f.gif", gif[:place] + b"\xff" * 4 + gif[place + 4 :], _LARGE, 0
    bmp = encoded(picture(22), "BMP")
    sides = struct.pack("<ii", 60000, -60000)
    yield "a BMP of 4 gigapixels", "huge.bmp", bmp[:18] + sides + bmp[26:], _LARGE, 0
    yield "a PPM of 10 gigapixels", "huge.ppm", b"P6 99999 99999 255\n", _LARGE, 0
    film = [picture(number) for number in (23, 24)]
    webp = encoded(film[0], "WEBP", save_all=True, append_images=film[1:])
    place = webp.index(b"VP8X") + 12
    canvas = webp[:place] + b"\xff\x3f\0" * 2 + webp[place + 6 :]
    yield "a WebP's canvas of 268 megapixels", "canvas.webp", canvas, _LARGE, 0
    yield "a TIFF's tile of 400 megapixels", "tile.tif", tiled((20000, 20000)), "tiles of 400,000,000", 0
    twice = tiled((20000, 20000), (16, 16))
    yield "a TIFF that names its tile twice", "twice.tif", twice, "tiles of 400,000,000", 0
    text = zlib.compress(bytes(20_000_000), 9)
    for kind in (b"zTXt", b"iCCP"):  # read without the text, which is never unpacked whole
        bomb = png(8, 8, 8, 0, bytes(72), (kind, b"k\0\0" + text))
        yield f"a bomb in a PNG's {kind.decode()}", f"{kind.decode()}.png", bomb, "", 1
    flood = [(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))] * 70
    yield "a flood of text in a PNG", "flood.png", png(8, 8, 8, 0, bytes(72), *flood), "", 1
    rare = "packed in a rare way that takes long to read"
    for kind, width, height, runs in (
        ("50 million steps", 50_000_000, 1, b"\1\1\0\0"),
        ("12 GB of one jump", 50_000_000, 1, b"\0\2\xff\xff"),
        ("50 thousand rows", 1000, 50_000, b"\1\1\0\0" * 50_000),
    ):
        yield f"a BMP packed into {kind}", "runs.bmp", _bmp_of_runs(width, height, runs), rare, 0
    comments = b"P3 2000 2000 255\n" + b"#\n" * 500_000
    yield "a PPM of half a million comments", "text.ppm", comments, rare, 0
    yield "a PPM of an odd depth", "odd.ppm", b"P6 1001 1000 254\n" + bytes(3_003_000), rare, 0
    slow = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = slow[slow.rindex(b"\xff\xda") : -2]
    yield "a JPEG of a thousand passes", "slow.jpg", slow[:-2] + scan * 1000 + slow[-2:], "over 64 passes", 0


def _bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bits, packed by run lengths."""
    about = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs) + 2, 0, 0, 256, 0)
    start = 14 + len(about) + 1024
    file = struct.pack("<2sIHHI", b"BM", start + len(runs) + 2, 0, 0, start)
    return file + about + bytes(1024) + runs + b"\0\1"


def _more_than_images() -> Iterator[Made]:
    """Valid images that are something else too: they are accepted, and nothing in them runs."""
    gif, jpeg, image = (encoded(picture(n), kind) for n, kind in ((30, "GIF"), (31, "JPEG"), (32, "PNG")))
    yield "a GIF and a script", "script.gif", gif + b"*/=1;alert(1)//", "", 1
    yield "a JPEG and a zip", "both.jpg", jpeg + zipped(Piece("../evil.png", image)), "", 1
    yield "a PNG and a page", "page.png", image + b"<html><script>alert(1)</script>", "", 1
    tags = (b"tEXt", b"Title\0<script>alert(1)</script><?php system('touch ran') ?>")
    yield "a PNG with a script in its title", "title.png", png(8, 8, 8, 0, bytes(72), tags), "", 1
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    yield "a JPEG with a script in its EXIF", "exif.jpg", encoded(picture(33), "JPEG", exif=exif), "", 1
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    film = b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + bytes(6) + frame * 20_000 + b";"
    yield "a GIF of twenty thousand frames", "film.gif", film, "", 1
    frames = (b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield "an APNG of two thousand million frames", "film.png", png(9, 9, 8, 0, bytes(90), frames), "", 1
