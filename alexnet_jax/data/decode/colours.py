"""Any pixels to RGB of 8 bits: greys of 16 bits, palettes, CMYK, transparency and colour profiles."""

import io
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageCms

from alexnet_jax.data.decode.headers import JPEG, Header

BAND = 4_000_000  # pixels that are converted at a time
SRGB = ImageCms.createProfile("sRGB")
STEPS = np.arange(0, 256, 17, dtype=np.uint8)
COLOURS = np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(64, 64, 3)  # a sample of all colours
EIGHT_BITS = ((np.arange(2**16) * 2 + 257) // 514).astype(np.uint8)  # from 16 bits, rounded
ROUNDING = 3  # of 255: profiles for sRGB differ among themselves by that much

Convert = Callable[[Image.Image], Image.Image]


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """A transform from `mode` (L, RGB, RGBA or CMYK) to sRGB in RGB or RGBA; None if the profile is not for it."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, SRGB, mode, "RGBA" if mode == "RGBA" else "RGB")
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


@lru_cache(maxsize=256)
def is_srgb(profile: bytes) -> bool:
    """Whether the profile leaves the colours as they are."""
    transform = to_srgb(profile, "RGB")
    if transform is None:
        return False
    try:
        there = ImageCms.applyTransform(Image.fromarray(COLOURS), transform)
    except (ValueError, ImageCms.PyCMSError):
        return False
    assert there is not None  # None only if done in place
    return bool(np.abs(np.asarray(there).astype(int) - COLOURS).max() <= ROUNDING)


def to_rgb(image: Image.Image, header: Header, obey_profiles: bool) -> Image.Image:
    """The picture in RGB."""
    is_rgb = image.mode == "RGB" and "transparency" not in image.info and not _foreign_profile(header, obey_profiles)
    return image if is_rgb else _in_bands(image, converter(image, header, obey_profiles))


def converter(image: Image.Image, header: Header, obey_profiles: bool) -> Convert:
    """A function that converts the whole picture, or some rows of it, to RGB."""
    return partial(_band_to_rgb, profile=_foreign_profile(header, obey_profiles))


def _band_to_rgb(image: Image.Image, profile: bytes) -> Image.Image:
    if image.mode.startswith("I"):  # a grey of 16 bits, which Pillow itself would clip at 255
        values = np.asarray(image)
        grey = Image.fromarray(EIGHT_BITS[values])
        if "transparency" in image.info:
            grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
        image = grey
    if profile:
        image = _in_srgb(image, profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _foreign_profile(header: Header, obey_profiles: bool) -> bytes:
    """The profile from which to convert colours; b"" for no conversion."""
    profile = header.metadata.profile
    return profile if obey_profiles and profile and not is_srgb(profile) else b""


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture converted by the profile; unchanged if the profile is not for such a picture."""
    has_alpha, before = image.has_transparency_data, image
    if image.mode in ("P", "PA", "RGB", "RGBA"):
        image = image.convert("RGBA" if has_alpha else "RGB")
    elif image.mode != "CMYK":
        image = image.convert("LA" if has_alpha else "L")
    alpha = image.getchannel("A") if has_alpha else None
    image = image if alpha is None else image.convert("L" if image.mode == "LA" else "RGB")
    transform = to_srgb(profile, image.mode)
    if transform is None and image.mode == "L":  # a grey picture with a profile for colours
        image = image.convert("RGB")
        transform = to_srgb(profile, image.mode)
    if transform is None:
        return before
    made = ImageCms.applyTransform(image, transform)
    assert made is not None  # None only if done in place
    if alpha is not None:
        made.putalpha(alpha)
    return made


def kind_of_profile(header: Header) -> str:
    """'' for no profile, sRGB, other, or broken if the profile cannot be used for such a picture."""
    profile = header.metadata.profile
    if not profile or is_srgb(profile):
        return "sRGB" if profile else ""
    modes = ["RGB"] if header.channels >= 3 else ["L", "RGB"]
    if header.format == JPEG and header.channels == 4:
        modes = ["CMYK"]
    return "other" if any(to_srgb(profile, mode) for mode in modes) else "broken"


def bands(image: Image.Image, columns: int, rows: int) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """Parts of `columns` columns and `rows` rows, each with the place of its first pixel."""
    for y in range(0, image.height, rows):
        for x in range(0, image.width, columns):
            yield (x, y), image.crop((x, y, min(x + columns, image.width), min(y + rows, image.height)))


def _in_bands(image: Image.Image, convert: Convert) -> Image.Image:
    """The picture converted, some rows at a time."""
    if image.width * image.height <= BAND:
        return convert(image)
    made = Image.new("RGB", image.size)
    for place, band in bands(image, image.width, rows=max(1, BAND // image.width)):
        made.paste(convert(band), place)
    return made
