"""The wire format of protocol buffers: a message is a sequence of numbered fields.

Encoding: protobuf.dev/programming-guides/encoding. Nothing is run, and nothing that a message claims is believed:
what is read is a view of the bytes that are there.
"""

import struct
from collections.abc import Iterator

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # the kinds of field; 3 and 4 are groups, which nobody writes any more
KINDS = (VARINT, FIXED64, LENGTH, FIXED32)
Field = tuple[int, int, int | memoryview]  # number, kind, value: an integer of VARINT, else bytes


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in their order.

    Numbers of 4 bytes that follow each other in the same field, as files without packing have millions of, come as
    one: bytes of all of them.

    Raises:
      ValueError: the message is no such format or ends too early.
    """
    place = 0
    while place < len(message):
        start = place
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if not number or kind not in KINDS:
            raise ValueError(f"byte {start} begins no field of a protocol buffer")
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == FIXED32 and place == start + 1:
            run = _run(message, start)
            yield number, kind, run
            place = start + 5 * (len(run) // 4)
            continue
        size, place = _varint(message, place) if kind == LENGTH else (8 if kind == FIXED64 else 4, place)
        if size > len(message) - place:
            raise ValueError(f"field {number} at byte {start} claims {size} bytes and {len(message) - place} are left")
        yield number, kind, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The integer there, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"the number that ends at byte {place} has more than 64 bits")


def _run(message: memoryview, start: int) -> memoryview:
    """The values of all fields from `start` on that have the tag there, one byte, and 4 bytes each."""
    rows = np.frombuffer(message[start : len(message) - (len(message) - start) % 5], np.uint8).reshape(-1, 5)
    if not len(rows):
        raise ValueError("it ends in the middle of a number")
    end, look = 1, 1
    while end < len(rows):  # ever further, so that many short runs do not cost a look at all that follows
        others = np.flatnonzero(rows[end : end + look, 0] != rows[0, 0])
        if len(others):
            end += int(others[0])
            break
        end, look = min(end + look, len(rows)), 2 * look
    return memoryview(rows[:end, 1:].tobytes())


def integers(kind: int, value: int | memoryview) -> list[int]:
    """Those of a repeated field: one, or packed. Raises ValueError as `fields`."""
    if isinstance(value, int):
        return [value]
    found, place = [], 0
    while kind == LENGTH and place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return found


def encode_varint(number: int) -> bytes:
    """Of 0 or more."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def encode_field(number: int, value: int | float | str | bytes) -> bytes:
    """An integer or truth value, a number of 4 bytes, or a text, message or packed numbers."""
    if isinstance(value, int):
        return encode_varint(number << 3 | VARINT) + encode_varint(value)
    if isinstance(value, float):
        return encode_varint(number << 3 | FIXED32) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return encode_varint(number << 3 | LENGTH) + encode_varint(len(content)) + content
