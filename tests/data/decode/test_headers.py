"""The reasons for files that are no JPEG, PNG or WebP picture."""

import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from PIL import Image

from alexnet_jax.data.decode import squares
from alexnet_jax.data.decode.headers import UnusablePicture
from tests.photographs import encoded, photograph

COLOUR = photograph(3)


def box(brand: bytes, *others: bytes) -> bytes:
    """The first box of a file of the ISO's base media format."""
    body = b"ftyp" + brand + b"\0\0\0\0" + b"".join(others)
    return (len(body) + 4).to_bytes(4) + body + b"\0\0\0\x08free" * 9


def archive(kind: str) -> bytes:
    """A zip with a JPEG, or a tar with it, packed or not."""
    file, content = io.BytesIO(), encoded(COLOUR)
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("a.jpg", content)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    if kind == "gz":
        return gzip.compress(file.getvalue())
    return lzma.compress(file.getvalue()) if kind == "xz" else file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ANOTHER = "which is not read here; save it as JPEG or PNG"
KINDS = [
    (encoded(COLOUR, "GIF"), f"a GIF picture, {ANOTHER}"),
    (encoded(COLOUR, "BMP"), f"a BMP picture, {ANOTHER}"),
    (encoded(COLOUR, "TIFF"), f"a TIFF or raw picture, {ANOTHER}"),
    (encoded(COLOUR.convert("F"), "TIFF"), f"a TIFF or raw picture, {ANOTHER}"),  # greys in floating point
    (encoded(COLOUR, "EPS"), f"a PostScript file, {ANOTHER}"),
    (b"\xc5\xd0\xd3\xc6" + bytes(26) + encoded(COLOUR, "EPS"), f"an EPS file, {ANOTHER}"),
    (encoded(COLOUR, "PDF"), f"a PDF file, {ANOTHER}"),
    (encoded(COLOUR, "ICO"), f"an icon, {ANOTHER}"),
    (encoded(COLOUR, "PPM"), f"a Netpbm picture, {ANOTHER}"),
    (encoded(COLOUR, "JPEG2000"), f"a JPEG 2000 picture, {ANOTHER}"),
    (encoded(COLOUR, "AVIF"), f"an AVIF picture, {ANOTHER}"),
    (box(b"avis", b"mif1"), f"an AVIF picture, {ANOTHER}"),
    (box(b"mif1", b"heic", b"mif1"), f"a HEIC picture, {ANOTHER}"),
    (box(b"heic", b"mif1", b"heix"), f"a HEIC picture, {ANOTHER}"),
    (box(b"crx ", b"isom"), f"a raw picture, {ANOTHER}"),
    (box(b"isom", b"mp42"), "not a picture: a video"),
    (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90), f"a JPEG XL picture, {ANOTHER}"),
    (b"8BPS\0\x01" + bytes(90), f"a Photoshop picture, {ANOTHER}"),
    (bytes(128) + b"DICM" + bytes(90), f"a DICOM picture, {ANOTHER}"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture: an SVG drawing; draw it as PNG"),
    (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<SVG/>", "not a picture: an SVG drawing; draw it as PNG"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not a picture: an XML file"),
    (b"<!DOCTYPE html>\n<html><title>404</title>", "not a picture: an HTML page; fetch the picture anew"),
    (b"\n\n  <html><body>Sign in", "not a picture: an HTML page; fetch the picture anew"),
    (POINTER, "not a picture: a Git LFS pointer; run `git lfs pull`"),
    (b"/annex/objects/SHA256E-s12--ab.jpg\n", "not a picture: a git-annex pointer; run `git annex get`"),
    (b"", "empty file"),
    (bytes(5000), "not a picture: nothing but zero bytes; copy it anew"),
    (b"\0", "not a picture: nothing but zero bytes; copy it anew"),
    (b"hello, this is text", "not a picture: text"),
    ("Grüße, 猫".encode() * 50, "not a picture: text"),
    ("Grüße".encode("utf-16"), "not a picture: text"),
    (b'{"error": "rate limit"}', "not a picture: text"),
    (archive("zip"), "not a picture: a ZIP archive; unpack it"),
    (archive("tar"), "not a picture: a tar; unpack it"),
    (archive("gz"), "not a picture: a gzip archive; unpack it"),
    (archive("xz"), "not a picture: an xz archive; unpack it"),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(90), "a file that macOS leaves beside the picture; remove it"),
    (encoded(COLOUR, "PNG").replace(b"\r\n", b"\n"), "a PNG picture that was changed as if it were text"),
    (b"\x13\x37\xff\x00\x01", "and of an unknown format: it begins with the bytes 13 37 ff 00 01"),
]


@pytest.mark.parametrize(("data", "reason"), KINDS, ids=range(len(KINDS)))
def test_the_reason_says_what_it_is_and_what_to_do(data: bytes, reason: str) -> None:
    with pytest.raises(UnusablePicture) as caught:
        squares.rgb(data, 10**6)
    assert reason in str(caught.value)


def test_no_other_kind_is_opened_whatever_pillow_could() -> None:
    """All that Pillow can write, in every mode that it can: what is opened is JPEG, PNG and WebP."""
    Image.init()
    opened = set()
    for form in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in ("RGB", "L", "P", "1", "RGBA", "F"):
            try:
                data = encoded(COLOUR.convert(mode), form)
            except (OSError, ValueError, TypeError, KeyError, AttributeError, DeprecationWarning):
                continue  # no such mode in this format, or soon no such format
            try:
                squares.rgb(data, 10**6)
                opened.add(form)
            except UnusablePicture as error:
                assert str(error)
    assert opened - {"MPO"} == {"JPEG", "PNG", "WEBP"}  # an MPO is a JPEG, with others behind it
