"""What a model saw of a picture: readings cut off edges, distort, and leave few pixels."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from farshot.images.preprocess import is_reading, prepare, resizing, seen_box

Box = tuple[float, float, float, float]
_FRAME = ((255, 255, 255), (0, 114, 178))  # of any picture one of the two is seen
_OUTSIDE = 0.55  # how far what is cut off fades to white


@dataclass(frozen=True)
class Reading:
    """How a model reads its pictures.

    Attributes:
        name: of the reading (farshot.images.preprocess).
        size: pixels a side of what the model sees.
    """

    name: str
    size: int

    @property
    def _is_one_square(self) -> bool:
        return self.name != "reduced" and is_reading(self.name)

    def box(self, width: int, height: int) -> Box | None:
        """The part of a picture that is seen, as (left, top, right, bottom) in its pixels; None for all."""
        if not self._is_one_square:
            return None
        left, top, right, bottom = seen_box(width, height, self.name, self.size)
        left, top, right, bottom = max(0.0, left), max(0.0, top), min(width, right), min(height, bottom)
        if right - left > width - 1 and bottom - top > height - 1:
            return None
        return left, top, right, bottom

    def framed(self, picture: Image.Image) -> Image.Image:
        """The picture with a frame around what is seen, and the rest faded; unchanged where all is seen."""
        box = self.box(*picture.size)
        if box is None:
            return picture
        left, top, right, bottom = (round(edge) for edge in box)
        faded = Image.blend(picture, Image.new("RGB", picture.size, "white"), _OUTSIDE)
        faded.paste(picture.crop((left, top, right, bottom)), (left, top))
        draw = ImageDraw.Draw(faded)
        for inset, colour in enumerate(_FRAME):
            line = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
            if line[0] <= line[2] and line[1] <= line[3]:  # a narrow strip has no room for both
                draw.rectangle(line, outline=colour)
        return faded

    def seen(self, picture: Image.Image) -> Image.Image | None:
        """The pixels that the model gets, `size` a side; None where it sees several parts of a picture."""
        return Image.fromarray(prepare(picture, self.name, self.size)) if self._is_one_square else None

    @property
    def in_words(self) -> str:
        """One sentence."""
        if not self._is_one_square:
            return "The model sees several parts of each picture."
        how = resizing(self.name, self.size)
        square = f"a square of {self.size} by {self.size} pixels"
        if how.keeps_shape:
            return (
                f"The model sees {square} from the middle of each picture; what lies outside the frame "
                "it does not see."
            )
        if how.side > self.size:
            return (
                f"The model sees the middle of each picture, squeezed into {square}; what lies outside the "
                "frame it does not see."
            )
        return f"The model sees the whole of each picture, squeezed into {square}."
