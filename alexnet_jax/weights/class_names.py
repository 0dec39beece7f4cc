"""Class names for imported weights."""

from importlib import resources
from pathlib import Path

from alexnet_jax.messages import UserError, say

IMAGENET = 1000  # classes


def imagenet() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The synsets of ImageNet 2012, sorted, and WordNet's words for each.

    Caffe, torchvision and TFDS all number the classes in this order. Source: the head of imagenet2012.tsv.
    """
    text = (resources.files("alexnet_jax.weights") / "imagenet2012.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple(line[0] for line in lines), tuple(line[1] for line in lines)


def class_names(count: int, file: str) -> tuple[str, ...]:
    """The names of `count` classes: a file's lines, else ImageNet's synsets for 1,000 classes, else numbers.

    Raises:
      UserError: the file cannot be read, or its number of lines is not the number of classes.
    """
    if file:
        try:
            names = Path(file).expanduser().read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, ValueError) as error:
            raise UserError(f"--classes={file} cannot be read ({error}); name a file with one class a line") from error
        named = sum(bool(name.strip()) for name in names)
        if not named == len(names) == count:
            raise UserError(
                f"--classes={file} has {named} names in {len(names)} lines, but the weights have {count} classes; give "
                "one name on a line for each class"
            )
        return tuple(name.rstrip("\r") for name in names)
    if count == IMAGENET:
        say("taking the 1,000 classes to be those of ImageNet 2012, in the order of their synsets")
        return imagenet()[0]
    say(f"the {count} classes have no names and are called 0 to {count - 1}; name them with --classes=FILE")
    return tuple(str(number) for number in range(count))
