"""JPEG: its header read without a decoder, and its pixels decoded with an ear for what the decoder warns of."""

import io
from dataclasses import replace

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_jax.data.decode.headers import JPEG, Header, Metadata, UnusablePicture

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN, END_OF_IMAGE, JFIF, EXIF, ICC, ADOBE = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xEE
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a frame's header
ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a length
PLAIN_JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"  # version 1.1, without a thumbnail
XMP = b"http://ns.adobe.com/xap/1.0/\0"
MAX_SCANS = 100  # of one picture: a decoder goes over all pixels for each, and no encoder makes half as many
# What libjpeg says when pixels are lost; all else that it warns of is about the header.
OF_PIXELS = ("Corrupt JPEG data", "Inconsistent progression", "Premature end")


def read_header(data: bytes) -> Header:
    """What the file says before its first scan, and the file with no segment that is not about pixels.

    Raises:
      UnusablePicture: it ends, or is damaged, before its pixels; or is of a kind that is not read.
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
        raise UnusablePicture("damaged header (it says no size)")
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
    """The next marker from `at` on, what its segment holds, and where that ends; of a scan, where its marker is."""
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
        raise UnusablePicture("damaged header (a segment of no length)")
    if at + length > len(data):
        raise UnusablePicture("damaged header (truncated before its pixels)")
    return data[at - 1], data[at + 2 : at + length], at + length


def _as_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def decode(header: Header, accept_damaged: bool, shrink: int) -> Image.Image:
    """The pixels, in L, RGB or CMYK; those that Pillow gives.

    Args:
      accept_damaged: whether what can be had of lost pixels will do.
      shrink: 1, 2, 4 or 8: how much smaller than it is.

    Raises:
      UnusablePicture: pixels are lost.
    """
    colours = {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.channels]
    if accept_damaged:
        array = _lenient(header, colours, shrink)
    else:
        array = _strict(header, colours, shrink)
    if array is None:  # of a kind that simplejpeg does not know, such as an odd subsampling
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
    """uint8 [height, width, channels]. Raises ValueError with what libjpeg says; if strict, with its warnings too."""
    size = {"min_height": header.height // shrink, "min_width": header.width // shrink} if shrink > 1 else {}
    return simplejpeg.decode_jpeg(header.data, colours, strict=strict, **size)


def _strict(header: Header, colours: str, shrink: int) -> np.ndarray | None:
    """None where it cannot be told whether pixels are lost."""
    try:
        return _decode(header, colours, shrink, strict=True)
    except ValueError as error:
        heard = str(error)
    if heard.startswith("Premature end"):  # without its end marker: are all pixels there?
        mended = header.data + EOI
    elif heard.endswith("bytes before marker 0xd9"):  # are they lost pixels, or zeros that fill a block up?
        mended = _without_zeros(header.data)
    else:
        mended = header.data
    try:
        return _decode(replace(header, data=mended), colours, shrink, strict=True)
    except ValueError as error:
        if heard.startswith("Premature end"):
            raise UnusablePicture(f"truncated ({error})") from error
        if heard.startswith(OF_PIXELS):
            raise UnusablePicture(f"damaged pixels ({heard})") from error
        return None


def _without_zeros(data: bytes) -> bytes:
    """The file without the zeros before its end marker."""
    scans = data[: data.rindex(EOI)].rstrip(b"\0")
    return scans + (b"\0" if scans.endswith(b"\xff") else b"") + EOI


def _lenient(header: Header, colours: str, shrink: int) -> np.ndarray | None:
    """None where there is nothing to be had."""
    try:
        return _decode(replace(header, data=header.data + EOI), colours, shrink, strict=False)
    except ValueError:
        return None
