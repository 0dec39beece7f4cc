"""Pictures in: sources, the prepared set, batches."""


def centre_offset(side: int, part: int) -> int:
    """The first row and column of the central `part` pixels in a square of `side` pixels."""
    return (side - part) // 2
