"""Draws a contact sheet: a few pictures of each class under its name, so that people see wrong labels."""

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
from alexnet_jax.files import whole
from alexnet_jax.messages import say

SHEET = "sheet.png"
MAX_CLASSES, ROW_PICTURES = 50, 8  # on a sheet, and for each class, at most
ROW_TRAINING = 6  # of these come from training; the others come from validation
VALIDATION = "validation"
MAX_SIDE = 96  # pixels of a picture's side on the sheet
LINE, GAP = 20, 4  # pixels: the height of a line of text, and between two pictures
MAX_ROWS = 17  # classes in a column


def draw_sheet(prepared: PreparedSet, data: ConfigDict) -> Path | None:
    """Draws `sheet.png` into the set's folder: the central crops of a few pictures of each class.

    Some pictures are from the training split and some from validation, whose labels may have another origin.

    Returns:
      The file; None, after a message, if it cannot be written.
    """
    chosen = _evenly(np.arange(len(prepared.classes)), MAX_CLASSES)
    rows = _pictures(prepared, data, data.train_split, chosen, ROW_TRAINING)
    title = f"{prepared.name}: the central {data.crop}x{data.crop} of some pictures of {data.train_split}"
    if VALIDATION in prepared.builder.info.splits and VALIDATION != data.train_split:
        others = _pictures(prepared, data, VALIDATION, chosen, ROW_PICTURES - ROW_TRAINING)
        title += f", and behind the line of {VALIDATION}"
    else:
        others = [images[:0] for images in rows]
    some = f", {len(chosen)} of {len(prepared.classes)} classes" if len(chosen) < len(prepared.classes) else ""
    sheet = draw(title + some, [_title_of(prepared, label) for label in chosen.tolist()], rows, others=others)
    path = prepared.folder / SHEET
    try:
        with whole(path, one_writer=True) as unfinished:
            sheet.save(unfinished, "PNG")
    except OSError as error:
        say(f"'{path}' cannot be written ({error.strerror or error}), so there is no contact sheet")
        return None
    return path


def _evenly(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the items, evenly spaced, with the first and the last."""
    return items[np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(np.int64))]


def _pictures(prepared: PreparedSet, data: ConfigDict, split: str, classes: np.ndarray, count: int) -> list[np.ndarray]:
    """uint8 [pictures, crop, crop, 3] for each class, `count` pictures at most."""
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
    """A class's number and name, and what people call it, if that is known."""
    called = read_words(prepared.folder).get(prepared.classes[label], "")
    return f"{label}  {prepared.classes[label]}{'  ' + called if called else ''}"


def draw(
    title: str,
    names: Sequence[str],
    rows: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]] | None = None,
    others: Sequence[np.ndarray] | None = None,
) -> Image.Image:
    """Draws rows of pictures under their names.

    Args:
      rows: for each row uint8 [pictures, side, side, 3], eight pictures at most; the same side for all.
      captions: for each row a caption below each picture; None for no captions.
      others: more pictures for each row, after a line where the seventh picture would be.
    """
    font = font_of(13)
    side = min(MAX_SIDE, rows[0].shape[1])
    width, height = ROW_PICTURES * (side + GAP), LINE + side + 2 * GAP + (LINE if captions else 0)  # of a row
    columns = -(-len(rows) // MAX_ROWS)
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
        line = left + ROW_TRAINING * (side + GAP) - GAP // 2
        if len(behind):
            pen.line((line, top + LINE, line, top + LINE + side), "black")
        for place, image in (*enumerate(images), *enumerate(behind, ROW_TRAINING)):
            small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
            at = left + place * (side + GAP)
            sheet.paste(small, (at, top + LINE))
            if captions:
                pen.text((at, top + LINE + side), fitted(captions[number][place], font, side), "black", font)
    return sheet


@lru_cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's font, which has many scripts, `size` pixels high; a character that it lacks is drawn as a box."""
    import matplotlib  # here, as it takes a tenth of a second

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text in a line no wider than `width` pixels; characters that cannot be printed are replaced."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if font.getlength(line) <= width:
        return line
    line = line[:width]  # no letter is narrower than a pixel
    while font.getlength(f"{line}\N{HORIZONTAL ELLIPSIS}") > width:
        line = line[:-1]
    return f"{line}\N{HORIZONTAL ELLIPSIS}"
