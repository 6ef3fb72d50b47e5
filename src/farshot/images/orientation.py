"""EXIF's orientation: what makes a picture upright.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library and Pillow only.
"""

from __future__ import annotations

from PIL import ExifTags, Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by EXIF's orientation."""
SIDEWAYS = [TURNS[turn] for turn in range(5, 9)]


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The operation that makes it upright; unreadable metadata is ignored."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata makes Pillow raise nearly anything; the pixels may be whole
        return None
