"""Write a choice: a contact sheet with the reason for each image, and a table to fill in with labels.

    sheet.png     the images in the order to label them, each with its reason and the images it represents
    index.html    the same as one page that needs nothing else
    picked.csv    order, path, label (empty), guess, reason, id (the image's content hash); filled in,
                  `farshot adapt picked.csv` and the board of `farshot app` take it; for a model that was
                  adapted with groups also an empty column group, without which folds would share patients or
                  plants
    names.json    what prompts call the classes, where that is not their labels

The folder is written whole or not at all.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from farshot.data.found import GROUP_COLUMN
from farshot.data.table import ImageTable, path_of
from farshot.errors import DataError
from farshot.explain.figure import fit, font, swatch
from farshot.explain.html import common, environment
from farshot.explain.style import places
from farshot.images.member import Named, absolute_name
from farshot.images.reading import ImageSource, image_id
from farshot.pick.choice import Choice
from farshot.sanitize import cell, path_cell
from farshot.storage.atomic import check_folder, reason, whole_folder
from farshot.storage.json_text import as_json
from farshot.storage.paths import home

TABLE = "picked.csv"
FILES = (TABLE, "sheet.png", "index.html")
NAMES = "names.json"
_MAY_HOLD = (*FILES, NAMES, "descriptions.json")  # the last one of an earlier version
COLUMNS = ("order", "path", "label", "guess", "reason", "id")
_EARLIER_COLUMNS = COLUMNS[:-1]  # a table of a version that wrote no id
_GROUPED_COLUMNS = (*COLUMNS, GROUP_COLUMN)  # of a model that was adapted with groups

_RULES = {
    "typical": "the most typical image of each group that looks alike, the largest groups first",
    "cover": "always the image that most brings all others nearer to a chosen one",
    "spread": "always the image farthest from those chosen before it",
    "uncertain": "images about which the model is least certain",
    "uncertain-spread": "images about which the model is uncertain and which differ from each other",
    "gradients": "images that would change the model most and differ from each other",
    "random": "drawn at random",
}
"""What each rule chooses."""

MOST_ON_SHEET = 60
SHOWN_ALIKE = 4
SIDE = 224  # pixels of a chosen picture
_SMALL = 46  # of one that it represents
_ACROSS, _GAP, _LINE = 5, 18, 18
_REASON_LINES = 3
_SENTENCE_LINES = 2
_COUNTED = ("images", "images that look alike")
_INK, _GREY, _PAPER = (20, 20, 20), (95, 95, 95), (244, 244, 244)


@dataclass(frozen=True)
class Card:
    """One chosen image, ready to be shown.

    Attributes:
        number: its place in the order, from 1.
        name: of the file.
        picture: SIDE by SIDE, the image in its own proportions.
        guess, reason: as in Choice.
        place: of the guess among the classes, which gives its letter and colour.
        alike: small pictures of images it represents.
        more: how many others it represents.
    """

    number: int
    name: str
    picture: Image.Image
    guess: str | None
    reason: str
    place: int
    alike: tuple[Image.Image, ...]
    more: int


def write_choice(folder: str | Path, choice: Choice, table: ImageTable) -> None:
    """Write sheet, page and table; an earlier choice without labels is replaced.

    Raises:
        DataError: the place is taken or cannot be written, or a path has characters that no table can hold.
    """
    folder = Path(folder)
    check_place(folder)
    paths = [_written_path(table.images[int(row)]) for row in choice.rows]
    drawn = cards(choice, table)
    group = [""] if choice.grouped else []
    rows: list[list[str]] = [list(_GROUPED_COLUMNS if choice.grouped else COLUMNS)]
    for card, path, row in zip(drawn, paths, choice.rows.tolist(), strict=True):
        cells = [path_cell(path), "", cell(card.guess or ""), cell(card.reason)]
        rows.append([str(card.number), *cells, image_id(table.images[row]), *group])
    words = {
        "title": headline(choice),
        "cards": drawn,
        "explained": explained(choice),
        "guessed": any(choice.guesses),
        "grouped": choice.grouped,
        "command": adapt_command(Path(folder.name) / TABLE, choice),
    }
    page = environment("farshot.pick").get_template("pick.html").render(**words, **common())
    with whole_folder(folder, check_place) as staging:
        sheet(choice, drawn).save(staging / "sheet.png")
        (staging / "index.html").write_text(page, encoding="utf-8", errors="replace")
        with (staging / TABLE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        if choice.prompt_names:
            (staging / NAMES).write_text(as_json(choice.prompt_names, indent=2) + "\n", encoding="utf-8")


def check_place(folder: Path) -> None:
    """Refuse a place that is taken by anything else or by a choice with labels; called before any work."""
    check_folder(folder, "a choice of images", lambda place: _MAY_HOLD if (place / TABLE).is_file() else None)
    table = home(folder) / TABLE
    if table.is_file() and not _is_untouched(table):
        raise DataError(f"{table} was filled in, and would be lost; choose another --out.")


def adapt_command(table: Path, choice: Choice) -> str:
    """The `farshot adapt` line for the filled-in table; empty where no command does it."""
    if not choice.adapt:
        return ""
    place = f"./{table}" if str(table).startswith("-") else str(table)
    names = [f"--class-names={Path(place).parent / NAMES}"] if choice.prompt_names else []
    return shlex.join(["farshot", "adapt", place, *choice.adapt, *names])


def cards(choice: Choice, table: ImageTable) -> list[Card]:
    """The chosen images with their texts."""
    order = places([guess for guess in choice.guesses if guess is not None], choice.class_names)
    out = []
    for place, row in enumerate(choice.rows.tolist()):
        guess, alike = choice.guesses[place], choice.alike[place]
        small = tuple(_boxed(table.image(other), _SMALL) for other in alike[:SHOWN_ALIKE])
        name = Path(path_of(table.images[row])).name
        picture = _boxed(table.image(row), SIDE)
        more = len(alike) - len(small)
        key = 0 if guess is None else order[guess]
        out.append(Card(place + 1, name, picture, guess, choice.reasons[place], key, small, more))
    return out


def headline(choice: Choice) -> str:
    """What the sheet shows, in one line."""
    return f"{len(choice)} of {choice.looked_at} images to label, the first ones first"


def explained(choice: Choice) -> tuple[str, ...]:
    """How to read the sheet, in sentences."""
    said = [
        "The number of an image is its place in the order to label them; stop after any of them.",
        f"Chosen by the rule {choice.rule}: {_RULES[choice.rule]}.",
    ]
    if any(choice.guesses):
        said.append("A letter in a square is the model's guess, not the truth.")
    if any(len(alike) for alike in choice.alike):
        said.append("Small pictures look more like the one above them than like any other chosen one.")
    if any(reason.startswith("between ") for reason in choice.reasons):
        shares = "scores" if any("score" in reason for reason in choice.reasons) else "percentages"
        said.append(f"The {shares} are those of the two classes that the model finds most probable.")
    elif any(reason.endswith(_COUNTED) for reason in choice.reasons):
        said.append("A number of images in a reason counts the image itself and those that it represents.")
    return tuple(said)


def sheet(choice: Choice, drawn: Sequence[Card]) -> Image.Image:
    """The contact sheet, of at most the first MOST_ON_SHEET images."""
    shown = drawn[:MOST_ON_SHEET]
    across = min(_ACROSS, max(3, len(shown)))
    rows = [shown[i : i + across] for i in range(0, len(shown), across)]
    heights = [max(map(_height, row)) + 2 * _GAP for row in rows]
    width = _GAP + across * (SIDE + _GAP)
    room = width - 2 * _GAP
    lines = [line for said in explained(choice) for line in _wrapped(said, font(12), room, _SENTENCE_LINES)]
    top = 2 * _GAP + 12 + (1 + len(lines)) * _LINE
    page = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    title = headline(choice)
    if len(drawn) > len(shown):
        title += f" (here {len(shown)}; all are in index.html)"
    draw.text((_GAP, _GAP), fit(title, font(18), room), fill=_INK, font=font(18))
    for number, line in enumerate(lines):
        draw.text((_GAP, _GAP + 28 + number * _LINE), line, fill=_GREY, font=font(12))
    y = top
    for row, height in zip(rows, heights, strict=True):
        for place, card in enumerate(row):
            _draw_card(page, draw, card, _GAP + place * (SIDE + _GAP), y)
        y += height
    return page


def _height(card: Card) -> int:
    """Pixels that `_draw_card` needs."""
    lines = 1 + (card.guess is not None) + len(_wrapped(card.reason, font(12), SIDE, _REASON_LINES))
    return SIDE + 5 + lines * _LINE + (5 + _SMALL if card.alike else 0)


def _draw_card(page: Image.Image, draw: ImageDraw.ImageDraw, card: Card, x: int, y: int) -> None:
    page.paste(card.picture, (x, y))
    number = str(card.number)
    width = font(16).getlength(number) + 14
    draw.rectangle((x, y, x + width, y + 25), fill=_INK)
    draw.text((x + width / 2, y + 12), number, fill="white", font=font(16), anchor="mm")
    y += SIDE + 5
    if card.guess is not None:
        wide = swatch(draw, (x, y + 1), card.place)
        draw.text((x + wide, y), fit(card.guess, font(14), SIDE - wide), fill=_INK, font=font(14))
        y += _LINE
    draw.text((x, y + 1), fit(card.name, font(12), SIDE), fill=_GREY, font=font(12))
    y += _LINE
    for line in _wrapped(card.reason, font(12), SIDE, _REASON_LINES):
        draw.text((x, y), line, fill=_INK, font=font(12))
        y += _LINE
    for place, small in enumerate(card.alike):
        page.paste(small, (x + place * (_SMALL + 4), y + 5))
    if card.more:
        right = x + len(card.alike) * (_SMALL + 4) + 2
        draw.text((right, y + 5 + _SMALL / 2), f"+{card.more}", fill=_GREY, font=font(12), anchor="lm")


def _wrapped(text: str, face: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """The text in at most so many lines of so many pixels; what does not fit ends with an ellipsis."""
    lines = [""]
    words = fit(text, face, 10_000).split()
    for place, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[place:]])
            break
    return [fit(line, face, width) for line in lines]


def _boxed(picture: Image.Image, side: int) -> Image.Image:
    """The picture in its own proportions, in the middle of a square."""
    zoom = side / max(picture.size)
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    how = Image.Resampling.BILINEAR if zoom < 2 else Image.Resampling.NEAREST
    box = Image.new("RGB", (side, side), _PAPER)
    small = picture.resize(size, how, reducing_gap=2.0 if zoom < 1 else None)
    box.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    return box


def _written_path(source: ImageSource) -> str:
    """The absolute path, so that rows of one table may be pasted below those of another."""
    if not isinstance(source, Named):
        return path_of(source)
    path = absolute_name(source)
    if path.encode("utf-8", "replace").decode() != path or path != path.strip():
        raise DataError(f"{path!r} cannot be written into a table; rename the file or its folder.")
    return path


def _is_untouched(table: Path) -> bool:
    """Whether an earlier choice has neither labels nor groups."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({reason(error)}); choose another --out.") from error
    if not rows or tuple(rows[0]) not in (COLUMNS, _EARLIER_COLUMNS, _GROUPED_COLUMNS):
        return False
    if any(len(row) != len(rows[0]) for row in rows):
        return False
    label, groups = COLUMNS.index("label"), len(COLUMNS)
    return not any(row[label] or any(row[groups:]) for row in rows[1:])
