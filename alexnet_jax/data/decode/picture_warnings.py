"""What is worth a sentence about the pictures that were stored, counted while they are made."""

from collections.abc import Iterator, Mapping, Sequence

from alexnet_jax.data.decode.decoder import Square

PROFILE, BROKEN_PROFILE, DIM = "profile", "broken profile", "dim "
NAMED = 5  # classes in a sentence


def notes_of(square: Square, label: int) -> list[str]:
    """Keys of notes: a colour profile that is not sRGB or of no use, and a picture of 16 bits that hardly uses them."""
    notes = {"other": [PROFILE], "broken": [BROKEN_PROFILE]}.get(square.profile, [])
    return [*notes, f"{DIM}{label}"] if square.dim else notes


def sentences(
    notes: Mapping[str, int], classes: Sequence[str], stored: Sequence[int], obey_profiles: bool
) -> Iterator[str]:
    """What the notes come to.

    Args:
      notes: how often each was made.
      classes: names, by label.
      stored: pictures, by label.
      obey_profiles: whether colours were converted.
    """
    profiles, broken = notes.get(PROFILE, 0), notes.get(BROKEN_PROFILE, 0)
    if profiles and obey_profiles:
        yield f"converted from colour profiles of their own to sRGB: {_pictures(profiles)}"
    elif profiles:
        yield (
            f"with colour profiles that are not sRGB, which are ignored: {_pictures(profiles)}; "
            "--config.data.colour_profiles=srgb obeys them"
        )
    if broken:
        yield f"with a colour profile that is of no use, so their colours are left as they are: {_pictures(broken)}"
    dim = [
        name for label, name in enumerate(classes) if stored[label] and notes.get(f"{DIM}{label}", 0) == stored[label]
    ]
    if dim:
        more = f" and {len(dim) - NAMED} more" if len(dim) > NAMED else ""
        yield (
            f"all pictures of {', '.join(repr(name) for name in dim[:NAMED])}{more} have 16 bits a channel and use "
            "less than an eighth of them, so they are nearly black here; scale them to the full range, if they are not "
            "meant to be, and prepare anew"
        )


def _pictures(count: int) -> str:
    return f"{count} pictures" if count > 1 else "1 picture"
