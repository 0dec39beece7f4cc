"""PNG: reads the chunks without a decoder, checks their checksums, and takes out metadata."""

import zlib
from collections.abc import Iterator

from alexnet_jax.data.decode.headers import PNG, Header, Metadata, UnusablePicture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
END = b"\0\0\0\0IEND\xaeB`\x82"
CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; for a palette those of its entries
XMP, RAW_EXIF = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"  # keywords of texts that may hold the orientation
MAX_METADATA = 64 << 20  # bytes that are unpacked from a chunk, at most


def read_header(data: bytes, accept_damaged: bool) -> Header:
    """The header and the metadata, and the file without its metadata.

    Args:
      accept_damaged: whether to accept wrong checksums of pixels.

    Raises:
      UnusablePicture: a checksum of pixels is wrong, or the header is damaged.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    said: dict[bytes, bytes] = {}
    for name, body, right in _chunks(data):
        if name in PIXEL_CHUNKS:
            if not (right or accept_damaged):
                raise UnusablePicture(f"damaged pixels (the checksum of the chunk {name.decode()} is wrong)")
            kept += [len(body).to_bytes(4), name, body, zlib.crc32(body, zlib.crc32(name)).to_bytes(4)]
        if name != b"IDAT" and (right or name in PIXEL_CHUNKS):
            said.setdefault(_key(name, body), bytes(body))
    start = said.get(b"IHDR", b"")
    if len(start) != 13 or start[9] not in CHANNELS:
        raise UnusablePicture("damaged header (it gives no size or no colour type)")
    return Header(
        PNG,
        width=int.from_bytes(start[:4]),
        height=int.from_bytes(start[4:8]),
        data=data if sum(map(len, kept)) + len(END) == len(data) else b"".join((*kept, END)),
        channels=CHANNELS[start[9]],
        deep=start[8] == 16,
        has_transparency=start[9] in (4, 6) or b"tRNS" in said,
        metadata=Metadata(_exif(said), _text(said.get(XMP, b"")), _profile(said.get(b"iCCP", b""))),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """The name of each chunk, its bytes, and whether its checksum is right; of a chunk cut short, what is left."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 < len(view):
        length, name = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        if name == b"IEND" or not name.isalpha():
            return
        body, checksum = view[at + 8 : at + 8 + length], view[at + 8 + length : at + 12 + length]
        cut = len(checksum) < 4
        yield name, body, cut or zlib.crc32(body, zlib.crc32(name)).to_bytes(4) == checksum
        at += 12 + length


def _key(name: bytes, body: memoryview) -> bytes:
    """The key for a chunk: its name, or for a text its keyword."""
    if name in (b"tEXt", b"zTXt", b"iTXt"):
        return bytes(body[:80]).partition(b"\0")[0] + b"\0"
    return name


def _unpacked(packed: bytes) -> bytes:
    """The unpacked bytes; b"" if they are damaged."""
    try:
        return zlib.decompressobj().decompress(packed, MAX_METADATA)
    except zlib.error:
        return b""


def _profile(body: bytes) -> bytes:
    """The colour profile in a chunk iCCP: it follows a name and a zero byte, which stands for zlib."""
    return _unpacked(body.partition(b"\0")[2][1:])


def _text(body: bytes) -> bytes:
    """The text in a chunk iTXt: it follows a keyword, two flags, a language and the translated keyword."""
    after = body.partition(b"\0")[2]
    text = after[2:].split(b"\0", 2)[-1]
    return _unpacked(text) if after[:1] == b"\x01" else text


def _exif(said: dict[bytes, bytes]) -> bytes:
    """The camera's EXIF: in its own chunk, or as hexadecimal digits in a text, as ImageMagick writes it."""
    if b"eXIf" in said:
        return b"Exif\0\0" + said[b"eXIf"]
    packed = said.get(RAW_EXIF, b"").partition(b"\0")[2]
    text = _unpacked(packed[1:]) or packed
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
