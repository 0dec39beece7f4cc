"""JPEG: reads the header without a decoder, and decodes pixels with attention to libjpeg's warnings."""

import io
from dataclasses import replace

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_jax.data.decode.headers import JPEG, Header, Metadata, UnusablePicture

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN, END_OF_IMAGE, JFIF, EXIF, ICC, ADOBE = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xEE
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frame headers
ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a length
PLAIN_JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"  # version 1.1, without a thumbnail
XMP = b"http://ns.adobe.com/xap/1.0/\0"
MAX_SCANS = 100  # a decoder goes over all pixels for each scan; no encoder makes half as many
# The beginnings of libjpeg's warnings about lost pixels; its other warnings are about the header.
LOST_PIXELS = ("Corrupt JPEG data", "Inconsistent progression", "Premature end")


def read_header(data: bytes) -> Header:
    """What the file says before its first scan, and the file without its metadata.

    Raises:
      UnusablePicture: it ends, or is damaged, before its pixels; or it is an unusual kind of JPEG.
    """
    kept, frame, exif, xmp, profile, at = [SOI], b"", b"", b"", {}, 2
    while True:
        marker, body, after = _segment(data, at)
        if marker == START_OF_SCAN:
            break
        at = after
        if marker == JFIF and body.startswith(b"JFIF\0") and len(body) >= len(PLAIN_JFIF):
            kept.append(_as_segment(JFIF, PLAIN_JFIF))
        elif marker == ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
            kept.append(_as_segment(ADOBE, body))
        elif marker == EXIF and body.startswith(b"Exif\0\0"):
            exif += body[6:] if exif else body
        elif marker == EXIF and body.startswith(XMP):
            xmp = body[len(XMP) :]
        elif marker == ICC and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker < JFIF:  # tables and frames, no APPn and no comment
            kept.append(_as_segment(marker, body))
            frame = frame if frame or marker not in FRAMES else body
    if len(frame) < 6:
        raise UnusablePicture("damaged header (it gives no size)")
    if frame[0] != 8 or frame[5] not in (1, 3, 4):
        raise UnusablePicture(f"a JPEG of {frame[5]} channels of {frame[0]} bits, which is not read here")
    scans = data.count(bytes((0xFF, START_OF_SCAN)), at)
    if scans > MAX_SCANS:
        raise UnusablePicture(f"a JPEG of {scans} scans, more than any encoder makes")
    return Header(
        JPEG,
        width=int.from_bytes(frame[3:5]),
        height=int.from_bytes(frame[1:3]),
        data=b"".join((*kept, memoryview(data)[after:])),
        channels=frame[5],
        metadata=Metadata(exif, xmp, b"".join(profile[number] for number in sorted(profile))),
    )


def _segment(data: bytes, at: int) -> tuple[int, bytes, int]:
    """The next marker from `at` on, its segment's bytes, and the segment's end; for a scan, the marker's place."""
    while True:
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if not 0 <= at < len(data):
            raise UnusablePicture("damaged header (truncated before its pixels)")
        if data[at] == START_OF_SCAN:
            return START_OF_SCAN, b"", at - 1
        if data[at] == END_OF_IMAGE:
            raise UnusablePicture("damaged header (it ends before its pixels)")
        at += 1
        if data[at - 1] not in ALONE:
            break
    length = int.from_bytes(data[at : at + 2])
    if length < 2:
        raise UnusablePicture("damaged header (a segment without a valid length)")
    if at + length > len(data):
        raise UnusablePicture("damaged header (truncated before its pixels)")
    return data[at - 1], data[at + 2 : at + length], at + length


def _as_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def decode(header: Header, accept_damaged: bool, shrink: int) -> Image.Image:
    """The pixels, in L, RGB or CMYK, the same as Pillow's.

    Args:
      accept_damaged: whether to accept a picture with lost pixels.
      shrink: the factor by which to shrink it: 1, 2, 4 or 8.

    Raises:
      UnusablePicture: pixels are lost.
    """
    colours = {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.channels]
    if accept_damaged:
        array = _lenient(header, colours, shrink)
    else:
        array = _strict(header, colours, shrink)
    if array is None:  # simplejpeg cannot decode it, for instance for an odd subsampling
        image = Image.open(io.BytesIO(header.data), formats=[JPEG])
        image.draft(None, (header.width // shrink, header.height // shrink))
        image.load()
        return image
    if header.channels == 1:
        return Image.fromarray(array[..., 0])
    if header.channels == 4:
        height, width, _ = array.shape
        return Image.frombuffer("CMYK", (width, height), np.bitwise_not(array, out=array), "raw", "CMYK", 0, 1)
    return Image.fromarray(array)


def _decode(header: Header, colours: str, shrink: int, strict: bool) -> np.ndarray:
    """uint8 [height, width, channels]. Raises ValueError with libjpeg's error, or, if strict, with its warning."""
    size = {"min_height": header.height // shrink, "min_width": header.width // shrink} if shrink > 1 else {}
    return simplejpeg.decode_jpeg(header.data, colours, strict=strict, **size)


def _strict(header: Header, colours: str, shrink: int) -> np.ndarray | None:
    """The pixels, or None if simplejpeg fails for another reason. Raises UnusablePicture if pixels are lost."""
    try:
        return _decode(header, colours, shrink, strict=True)
    except ValueError as error:
        warning = str(error)
    if warning.startswith("Premature end"):  # the end marker is missing; try whether all pixels are there
        mended = header.data + EOI
    elif warning.endswith("bytes before marker 0xd9"):  # lost pixels, or only zeros that fill up a block
        mended = _without_zeros(header.data)
    else:
        mended = header.data
    try:
        return _decode(replace(header, data=mended), colours, shrink, strict=True)
    except ValueError as error:
        if warning.startswith("Premature end"):
            raise UnusablePicture(f"truncated ({error})") from error
        if warning.startswith(LOST_PIXELS):
            raise UnusablePicture(f"damaged pixels ({warning})") from error
        return None


def _without_zeros(data: bytes) -> bytes:
    """The file without the zeros before its end marker."""
    scans = data[: data.rindex(EOI)].rstrip(b"\0")
    return scans + (b"\0" if scans.endswith(b"\xff") else b"") + EOI


def _lenient(header: Header, colours: str, shrink: int) -> np.ndarray | None:
    """The pixels with what is left of lost ones, or None if the decoder finds none."""
    try:
        return _decode(replace(header, data=header.data + EOI), colours, shrink, strict=False)
    except ValueError:
        return None
