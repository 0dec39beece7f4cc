"""Thousands of odd files: each becomes a square or is refused with a reason; nothing hangs, no program starts."""

import io
import json
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet_jax.data.decode.decoder import Rules, square_of
from alexnet_jax.data.decode.headers import UnusablePicture
from tests.conftest import ROOT
from tests.data.decode.test_colours import profile_of
from tests.data.decode.test_decoder import chunk, segment, with_chunk, with_segments
from tests.data.decode.test_headers import KINDS
from tests.photographs import encoded, photograph

# In a process of its own, where a hook hears of all that Python starts.
WATCHED = """
import json, resource, sys
started = []
words = ("subprocess", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "os.startfile", "pty.spawn")
sys.addaudithook(lambda event, _: started.append(event) if event.startswith(words) else None)
from tests.data.decode import test_odd_pictures  # imports what asks for the machine's name
started.clear()
resource.setrlimit(resource.RLIMIT_CPU, (3000, 3000))
print(test_odd_pictures.count_odd(int(sys.argv[1])))
print(json.dumps(started))
"""
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
}
METADATA = (
    b"",
    b"Exif\0\0",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06",
)


@st.composite
def good(draw: Any) -> tuple[str, bytes]:
    """A picture of any size, mode and encoding that Pillow writes, and its format."""
    form = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[form]))
    size = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    image = photograph(draw(st.integers(0, 9)), 70, 70).resize(size)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << draw(st.integers(0, 8)))
    elif mode in ("RGBA", "LA"):
        image.putalpha(draw(st.integers(0, 255)))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    options: dict[str, Any] = {}
    if form != "PNG":
        options["quality"] = draw(st.integers(1, 100))
    if form == "JPEG":
        options["progressive"] = draw(st.booleans())
        options["restart_marker_blocks"] = draw(st.sampled_from([0, 1, 3]))
    if form == "WEBP":
        options["lossless"] = draw(st.booleans())
    if draw(st.booleans()) and mode in ("RGB", "RGBA"):
        if form != "JPEG":
            options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
        options["icc_profile"] = draw(st.sampled_from([None, b"", b"no profile", profile_of(1.8)]))
    file = io.BytesIO()
    image.save(file, form, **options)
    return form, file.getvalue()


@st.composite
def described(draw: Any) -> bytes:
    """A good picture with odd things said beside its pixels."""
    form, data = draw(good())
    said = draw(st.sampled_from(METADATA)) + draw(st.binary(max_size=40))
    wrong = draw(st.booleans())
    if form == "JPEG":
        marker = draw(st.sampled_from([0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE]))
        head = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xED: b"Photoshop 3.0\x00", 0xEE: b"Adobe"}.get(marker, b"")
        return with_segments(data, segment(marker, head + said))
    if form == "PNG":
        name = draw(
            st.sampled_from([b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"sBIT", b"tRNS", b"PLTE"])
        )
        body = draw(st.sampled_from([said, b"XML:com.adobe.xmp\0\1\0\0\0" + said, b"a\0\0" + zlib.compress(said * 99)]))
        return with_chunk(data, chunk(name, body, wrong))
    name = draw(st.sampled_from([b"EXIF", b"XMP ", b"ICCP"]))
    body = data[12:] + name + len(said).to_bytes(4, "little") + said + bytes(len(said) % 2)
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


@st.composite
def damaged(draw: Any) -> bytes:
    """A picture cut, overwritten, with bytes put in or taken out, or with another size in its header."""
    form, data = draw(good())
    how = draw(st.sampled_from(["cut", "overwritten", "put in", "taken out", "doubled", "resized"]))
    at = draw(st.integers(0, len(data)))
    noise = draw(st.binary(min_size=1, max_size=20))
    if how == "cut":
        return data[:at]
    if how == "overwritten":
        return data[:at] + noise + data[at + len(noise) :]
    if how == "put in":
        return data[:at] + noise + data[at:]
    if how == "taken out":
        return data[:at] + data[at + len(noise) :]
    if how == "doubled":
        return data[:at] + data
    width, height = (draw(st.sampled_from([0, 1, 65, 5000, 65535])) for _ in range(2))
    if form == "PNG":
        start = width.to_bytes(4) + height.to_bytes(4) + data[24:29]
        return data[:8] + chunk(b"IHDR", start) + data[33:]
    if form == "JPEG":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return data[: frame + 5] + height.to_bytes(2) + width.to_bytes(2) + data[frame + 9 :]
    return data[:24] + width.to_bytes(3, "little") + height.to_bytes(3, "little") + data[30:]


@st.composite
def strange(draw: Any) -> bytes:
    """No picture, or a picture of another format, or the first bytes of a picture and then noise."""
    heads = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x40\0\0\0WEBPVP8 ",
        b"RIFF\x40\0\0\0WEBPVP8X",
        b"%!PS-Adobe",
        b"",
    ]
    other = draw(st.sampled_from([data for data, _ in KINDS]))
    return draw(st.sampled_from([other, draw(st.sampled_from(heads)) + draw(st.binary(max_size=300))]))


PLAIN = good().map(lambda made: made[1])


def judge(data: bytes, accept_damaged: bool, obey_profiles: bool) -> bool:
    """Whether the picture can be used; checks that the result is a square, or a reason in one line."""
    try:
        made = square_of(data, 16, Rules(2_000_000, accept_damaged, obey_profiles))
    except UnusablePicture as error:
        assert str(error) and "\n" not in str(error)
        return False
    assert (made.image.mode, made.image.size) == ("RGB", (16, 16))
    return True


def count(pictures: st.SearchStrategy[bytes], examples: int) -> list[int]:
    """The number of pictures that can be used, and the number of all."""
    used: list[bool] = []

    @seed(0)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(pictures, st.booleans(), st.booleans())
    def judged(data: bytes, accept_damaged: bool, obey_profiles: bool) -> None:
        used.append(judge(data, accept_damaged, obey_profiles))

    judged()
    return [sum(used), len(used)]


def count_odd(examples: int) -> str:
    """The counts for each kind of file, as JSON."""
    kinds = {"plain": PLAIN, "described": described(), "damaged": damaged(), "strange": strange()}
    return json.dumps({kind: count(pictures, examples) for kind, pictures in kinds.items()})


def run_watched(examples: int, program: str = WATCHED) -> tuple[dict[str, list[int]], list[str]]:
    """The counts, and what was started meanwhile."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(examples)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600,  # a hang, on any machine,
    )
    assert done.returncode == 0, done.stderr
    counts, started = done.stdout.splitlines()[-2:]
    return json.loads(counts), json.loads(started)


@pytest.mark.parametrize("examples", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_odd_pictures_become_squares_or_are_refused_with_a_reason(examples: int) -> None:
    counts, started = run_watched(examples)
    assert started == []
    assert counts["plain"][0] == counts["plain"][1] >= examples
    assert counts["strange"][0] == 0
    for kind in ("described", "damaged"):
        used, of = counts[kind]
        assert 0 < used < of and of >= examples


def test_the_watch_hears_of_what_is_started() -> None:
    """Without this, a hook that notices nothing would pass."""
    starting = WATCHED.replace("print(json", "import subprocess; subprocess.run(['true'])\nprint(json")
    assert "subprocess.Popen" in run_watched(1, starting)[1]


def test_a_postscript_file_under_another_name_starts_nothing() -> None:
    assert encoded(photograph(1), "EPS").startswith(b"%!PS")
    with pytest.raises(UnusablePicture, match="a PostScript file"):
        square_of(encoded(photograph(1), "EPS"), 16, Rules(10**6))
