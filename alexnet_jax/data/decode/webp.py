"""WebP: its header read without a decoder."""

from alexnet_jax.data.decode.headers import WEBP, Header, Metadata, UnusablePicture

ZEROS = 256  # no picture ends in so many


def read_header(data: bytes) -> Header:
    """The size alone; the rest is read with the pixels, as Pillow decodes when it opens."""
    chunk, at = data[12:16], data[20:30]
    if len(data) < 30:
        raise UnusablePicture("damaged header (truncated before its pixels)")
    if chunk == b"VP8X":
        width, height = (int.from_bytes(at[i : i + 3], "little") + 1 for i in (4, 7))
    elif chunk == b"VP8L":
        bits = int.from_bytes(at[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (int.from_bytes(at[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    else:
        raise UnusablePicture("damaged header (no WebP picture follows)")
    if data.endswith(bytes(ZEROS)):  # of which the decoder makes pixels without a word
        raise UnusablePicture("truncated (its end is nothing but zeros)")
    return Header(WEBP, width, height, data, metadata=_metadata(data))


def _metadata(data: bytes) -> Metadata:
    """What stands in chunks of its own."""
    found, at = dict[bytes, bytes](), 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"EXIF", b"XMP ", b"ICCP"):
            found.setdefault(data[at : at + 4], data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return Metadata(found.get(b"EXIF", b""), found.get(b"XMP ", b""), found.get(b"ICCP", b""))
