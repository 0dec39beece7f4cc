"""A contact sheet of a prepared set: a few pictures of each class under its name, for people to see wrong labels."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from alexnet_jax.data import centre_offset
from alexnet_jax.data.prepared.class_words import read_words
from alexnet_jax.data.prepared.prepared_set import PreparedSet, labels_of_split
from alexnet_jax.data.prepared.stored_squares import StoredSquares
from alexnet_jax.messages import say

SHEET = "sheet.png"
CLASSES, PICTURES = 50, 8  # at most: on a sheet, and of each class
OF_TRAINING = 6  # of these; the others are of validation
VALIDATION = "validation"
PIXELS = 96  # of a picture's side on the sheet, at most
LINE, GAP = 20, 4  # pixels: the height of a line of text, and between two pictures
ROWS = 17  # classes below each other, before there is another column


def draw_sheet(prepared: PreparedSet, data: ConfigDict) -> Path | None:
    """Leaves `sheet.png` in the set's folder: what the network sees of each class where nothing is random.

    Some pictures are of the training split and some of the one for validation, whose labels may come from elsewhere.

    Returns:
      Where it lies; None, and a sentence is said, where it cannot be written.
    """
    chosen = _evenly(np.arange(len(prepared.classes)), CLASSES)
    rows = _pictures(prepared, data, data.train_split, chosen, OF_TRAINING)
    title = f"{prepared.name}: the central {data.crop}x{data.crop} of some pictures of {data.train_split}"
    if VALIDATION in prepared.builder.info.splits and VALIDATION != data.train_split:
        others = _pictures(prepared, data, VALIDATION, chosen, PICTURES - OF_TRAINING)
        title += f", and behind the line of {VALIDATION}"
    else:
        others = [images[:0] for images in rows]
    some = f", {len(chosen)} of {len(prepared.classes)} classes" if len(chosen) < len(prepared.classes) else ""
    sheet = draw(title + some, [_title_of(prepared, label) for label in chosen.tolist()], rows, others=others)
    path = prepared.folder / SHEET
    unfinished = path.with_name(f".{SHEET}")
    try:
        sheet.save(unfinished, "PNG")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        say(f"'{path}' cannot be written ({error.strerror or error}), so there is no contact sheet")
        return None
    return path


def _evenly(items: np.ndarray, count: int) -> np.ndarray:
    """At most so many of the items, evenly spaced, with the first and the last."""
    return items[np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(np.int64))]


def _pictures(prepared: PreparedSet, data: ConfigDict, split: str, classes: np.ndarray, count: int) -> list[np.ndarray]:
    """uint8 [pictures, crop, crop, 3] of each class, at most so many, found by the indices of the split's files."""
    of_split = labels_of_split(prepared, split)
    squares, middle = StoredSquares(prepared, split), centre_offset(data.resize, data.crop)
    found = []
    for label in classes.tolist():
        numbers = _evenly(np.flatnonzero(of_split == label), count)
        images = np.zeros((len(numbers), data.crop, data.crop, 3), np.uint8)
        squares.cut(images, numbers, np.full((len(numbers), 2), middle), np.zeros(len(numbers), bool))
        found.append(images)
    return found


def _title_of(prepared: PreparedSet, label: int) -> str:
    """A class's number and name, and what a person calls it where that is known."""
    called = read_words(prepared.folder).get(prepared.classes[label], "")
    return f"{label}  {prepared.classes[label]}{'  ' + called if called else ''}"


def draw(
    title: str,
    names: Sequence[str],
    rows: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]] | None = None,
    others: Sequence[np.ndarray] | None = None,
) -> Image.Image:
    """Rows of pictures under their names.

    Args:
      rows: of uint8 [pictures, side, side, 3], eight pictures at most; one side for all.
      captions: of each picture, below it; None: nothing stands there.
      others: more of each row, behind a line at the place of the seventh picture.
    """
    font = font_of(13)
    side = min(PIXELS, rows[0].shape[1])
    width, height = PICTURES * (side + GAP), LINE + side + 2 * GAP + (LINE if captions else 0)  # of a row
    columns = -(-len(rows) // ROWS)
    below = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * (width + 4 * GAP) + 4 * GAP, below * height + 2 * LINE), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((4 * GAP, GAP), fitted(title, font, sheet.width - 8 * GAP), "black", font)
    for number, (name, images, behind) in enumerate(zip(names, rows, others or [x[:0] for x in rows], strict=True)):
        column, row = divmod(number, below)
        left, top = 4 * GAP + column * (width + 4 * GAP), LINE + GAP + row * height
        if not len(images):
            name += "  (no picture)"
        pen.text((left, top), fitted(name, font, width - GAP), "black", font)
        line = left + OF_TRAINING * (side + GAP) - GAP // 2
        if len(behind):
            pen.line((line, top + LINE, line, top + LINE + side), "black")
        for place, image in (*enumerate(images), *enumerate(behind, OF_TRAINING)):
            small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
            at = left + place * (side + GAP)
            sheet.paste(small, (at, top + LINE))
            if captions:
                pen.text((at, top + LINE + side), fitted(captions[number][place], font, side), "black", font)
    return sheet


@lru_cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings, of many scripts, in so many pixels; what it lacks is drawn as a box."""
    import matplotlib  # takes a tenth of a second, in which training could begin

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """In one line that is no wider; what cannot be printed is replaced."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if font.getlength(line) <= width:
        return line
    line = line[:width]  # no letter is narrower than a pixel
    while font.getlength(f"{line}\N{HORIZONTAL ELLIPSIS}") > width:
        line = line[:-1]
    return f"{line}\N{HORIZONTAL ELLIPSIS}"
