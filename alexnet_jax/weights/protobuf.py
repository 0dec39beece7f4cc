"""The wire format of protocol buffers: a message is a sequence of numbered fields.

Source: protobuf.dev/programming-guides/encoding. No length that a message claims is trusted: large values are views
of the file's bytes, so 61 million weights are read without a copy.
"""

import struct
from collections.abc import Iterator

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # kinds of field; 3 and 4 are groups, which are deprecated
BLOCK = 4096  # fields whose tags are compared at once
Field = tuple[int, int, int | memoryview]  # number, kind, value: an integer for VARINT, else bytes


def fields(message: memoryview) -> Iterator[Field]:
    """Yields the fields of a message in their order.

    Successive 4-byte values of the same field, as files without packing have them by the million, are one field: the
    bytes of all of them.

    Raises:
      ValueError: the bytes are no protocol buffer, or end too early.
    """
    place = 0
    while place < len(message):
        start = place
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if not number or kind not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise ValueError(f"no field of a protocol buffer begins at byte {start}")
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == FIXED32 and place == start + 1:
            values = _successive(message, start)
            yield number, kind, values
            place = start + 5 * (len(values) // 4)
            continue
        size, place = _varint(message, place) if kind == LENGTH else (8 if kind == FIXED64 else 4, place)
        if size > len(message) - place:
            raise ValueError(f"field {number} at byte {start} claims {size} bytes and {len(message) - place} are left")
        yield number, kind, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The integer at `place`, and the place after it."""
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


def _successive(message: memoryview, start: int) -> memoryview:
    """The values of all successive fields from `start` on with the same one-byte tag and 4 bytes each."""
    rows = np.frombuffer(message[start : len(message) - (len(message) - start) % 5], np.uint8).reshape(-1, 5)
    if not len(rows):
        raise ValueError("it ends in the middle of a number")
    end = 1
    while end < len(rows):  # block by block, or many short runs would each scan the whole rest
        differs = rows[end : end + BLOCK, 0] != rows[0, 0]
        if differs.any():
            end += int(differs.argmax())
            break
        end = min(end + BLOCK, len(rows))
    return memoryview(rows[:end, 1:].tobytes())


def integers(kind: int, value: int | memoryview) -> list[int]:
    """The integers of a field: a single one, or packed. Raises ValueError as `fields`."""
    if isinstance(value, int):
        return [value]
    found, place = [], 0
    while kind == LENGTH and place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return found


def encode_field(number: int, value: int | float | str | bytes) -> bytes:
    """A field with an integer of 0 or more, a float32, a text, or the bytes of a message or of packed numbers."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | VARINT) + _encode_varint(value)
    if isinstance(value, float):
        return _encode_varint(number << 3 | FIXED32) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _encode_varint(number << 3 | LENGTH) + _encode_varint(len(content)) + content


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
