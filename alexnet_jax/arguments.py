"""The command line's words as they were given, before absl and ml_collections parse them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag before flags are parsed, of several the last, which counts; None where it is not given."""
    found = None
    for place, argument in enumerate(argv):
        if argument == "--":
            break
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}") and (equals or argv[place + 1 :]):
            found = value if equals else argv[place + 1]
    return found


def made_plain(argv: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """The arguments as ml_collections takes them; after a `--` there are files, which stay as they are."""
    end = argv.index("--") if "--" in argv else len(argv)
    return [*_last_of_each_field(_with_equals(_without_config_file(argv[:end]), fields)), *argv[end:]]


def _without_config_file(argv: Sequence[str]) -> list[str]:
    """The arguments without --config=FILE or --config FILE, which has been read."""
    rest: list[str] = []
    given = iter(argv)
    for argument in given:
        if argument in ("--config", "-config"):
            next(given, None)
        elif not argument.startswith(("--config=", "-config=")):
            rest.append(argument)
    return rest


def _with_equals(argv: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """The arguments, with --config.KEY=VALUE for --config.KEY VALUE; a field that is true or false stands alone."""
    made, given = [], iter(argv)
    for argument in given:
        found = re.fullmatch(r"--?config\.([^=]+)", argument)
        takes_value = found and not isinstance(fields.get(found[1], False), bool)
        value = next(given, None) if takes_value else None
        made.append(argument if value is None else f"{argument}={value}")
    return made


def _last_of_each_field(argv: Sequence[str]) -> list[str]:
    """The arguments without a --config.KEY=VALUE that a later one of the same field replaces.

    Of a number the last one counts in any case; but ml_collections makes one tuple of all that are given.
    """
    fields = [found[1] if (found := re.match(r"--?(config\..+?)=", one)) else None for one in argv]
    return [one for at, one in enumerate(argv) if fields[at] is None or fields[at] not in fields[at + 1 :]]
