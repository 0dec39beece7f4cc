"""A file's format by its first bytes, what a picture's header says, and WebP's header."""

from collections.abc import Sequence
from dataclasses import dataclass, field

JPEG, PNG, WEBP = "JPEG", "PNG", "WEBP"  # the formats that are opened
ANOTHER = "save it as JPEG or PNG"
ZEROS = 256  # no WebP picture ends in so many zero bytes

# The first bytes of files that lie among pictures with a picture's name: pictures of other formats, and other files.
OTHER_PICTURES: Sequence[tuple[bytes, str]] = (
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF or raw picture"),
    (b"MM\0*", "a TIFF or raw picture"),
    (b"II+\0", "a TIFF picture"),
    (b"MM\0+", "a TIFF picture"),
    (b"IIRO", "a raw picture"),
    (b"FUJIFILM", "a raw picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"\0\0\x01\0", "an icon"),
    *((b"P%d%c" % (kind, space), "a Netpbm picture") for kind in range(1, 7) for space in b" \t\r\n"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"%PDF", "a PDF file"),
)
NO_PICTURES: Sequence[tuple[bytes, str]] = (
    (b"\x89PNG", "a PNG picture that was changed as if it were text; copy it anew, byte for byte"),
    (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer; run `git annex get`"),
    (b"\0\x05\x16\x07", "a file that macOS leaves beside the picture; remove it"),
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"BZh", "a bzip2 archive; unpack it"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "a sound or a video"),
)
MARKUP: Sequence[tuple[str, str]] = (
    ("<svg", "an SVG drawing; draw it as PNG"),
    ("<!doctype", "an HTML page; fetch the picture anew"),
    ("<html", "an HTML page; fetch the picture anew"),
    ("<?xml", "an XML file"),
)
HEIC, AVIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), (b"avif", b"avis")


class UnusablePicture(Exception):
    """Why a picture cannot be used, in a few words."""


@dataclass(frozen=True)
class Metadata:
    """What a file holds besides its pixels; empty if it does not."""

    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""  # ICC colour profile


@dataclass(frozen=True)
class Header:
    """What a picture file says before its pixels are decoded."""

    format: str  # JPEG, PNG or WEBP
    width: int
    height: int
    data: bytes = field(repr=False)  # the file, for PNG and JPEG without metadata
    channels: int = 3
    deep: bool = False  # whether it has 16 bits a channel
    has_transparency: bool = False
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.width * self.height


def format_of(data: bytes) -> str:
    """JPEG, PNG or WEBP. Raises UnusablePicture for any other file, and says what it is and what to do."""
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    raise UnusablePicture(what_it_is(data))


def what_it_is(data: bytes) -> str:
    """What a file is that is no JPEG, PNG or WebP, by its first few hundred bytes, and what to do."""
    if not data:
        return "empty file"
    if data[4:8] == b"ftyp":
        return _of_boxes(data)
    if data.startswith(b"BM") and data[15:18] == bytes(3):  # the high bytes of the header's size, which no text has
        return f"a BMP picture, which is not read here; {ANOTHER}"
    for start, what in OTHER_PICTURES:
        if data.startswith(start):
            return f"{what}, which is not read here; {ANOTHER}"
    for start, what in NO_PICTURES:
        if data.startswith(start):
            return f"not a picture: {what}"
    if data[257:262] == b"ustar":
        return "not a picture: a tar; unpack it"
    if data[128:132] == b"DICM":
        return f"a DICOM picture, which is not read here; {ANOTHER}"
    if not data.strip(b"\0"):
        return "not a picture: nothing but zero bytes; copy it anew"
    return _of_text(data)


def _of_boxes(data: bytes) -> str:
    """What a file in ISO's box format is, by the brands in its first box."""
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4]), 256), 4))]
    if any(brand in AVIF for brand in brands):
        return f"an AVIF picture, which is not read here; {ANOTHER}"
    if any(brand in HEIC for brand in brands):
        return f"a HEIC picture, which is not read here; {ANOTHER}"
    if brands[0] == b"crx ":
        return f"a raw picture, which is not read here; {ANOTHER}"
    return "not a picture: a video"


def _of_text(data: bytes) -> str:
    head = data[:512]
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = head.decode(encoding, errors="ignore")
    if len(text.encode(encoding, errors="ignore")) < len(head) - 4 or any(
        c < " " and c not in "\t\n\r\f" for c in text
    ):
        return f"not a picture, and of an unknown format: it begins with the bytes {head[:8].hex(' ')}"
    for start, what in MARKUP:
        if start in text.lower():
            return f"not a picture: {what}"
    return "not a picture: text"


def read_webp_header(data: bytes) -> Header:
    """The size and the metadata of a WebP picture; Pillow reads the rest with the pixels, as it decodes on opening.

    Raises:
      UnusablePicture: it ends, or is damaged, before its pixels, or ends in zeros.
    """
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
    if data.endswith(bytes(ZEROS)):  # the decoder would make pixels from them without a warning
        raise UnusablePicture("truncated (its end is nothing but zeros)")
    return Header(WEBP, width, height, data, metadata=_webp_metadata(data))


def _webp_metadata(data: bytes) -> Metadata:
    found, at = dict[bytes, bytes](), 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"EXIF", b"XMP ", b"ICCP"):
            found.setdefault(data[at : at + 4], data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return Metadata(found.get(b"EXIF", b""), found.get(b"XMP ", b""), found.get(b"ICCP", b""))
