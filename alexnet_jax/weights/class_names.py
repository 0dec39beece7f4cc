"""What the classes of weights from elsewhere are called."""

from importlib import resources
from pathlib import Path

from alexnet_jax.messages import UserError, say

IMAGENET = 1000  # classes


def imagenet() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The synsets of ImageNet 2012, sorted, and WordNet's words for each.

    Caffe, torchvision and TFDS number the classes in this one order. The file says where the words are from.
    """
    text = (resources.files("alexnet_jax.weights") / "imagenet2012.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple(line[0] for line in lines), tuple(line[1] for line in lines)


def class_names(count: int, file: str) -> tuple[str, ...]:
    """A file's, one a line; without one ImageNet's where their number is that, else numbers; says which.

    Raises:
      UserError: the file cannot be read, or has not as many lines as there are classes.
    """
    if file:
        try:
            names = Path(file).expanduser().read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, ValueError) as error:
            raise UserError(f"--classes={file} cannot be read ({error}); name a file with a class a line") from error
        named = sum(bool(name.strip()) for name in names)
        if not named == len(names) == count:
            raise UserError(
                f"--classes={file} has {named} names in {len(names)} lines and the weights are of {count} classes; "
                "give a name for each, one a line"
            )
        return tuple(name.rstrip("\r") for name in names)
    if count == IMAGENET:
        say("1,000 classes are taken for those of ImageNet 2012, in the order of their synsets")
        return imagenet()[0]
    say(f"no names are known for the {count} classes: they are called 0 to {count - 1}; give --classes=FILE")
    return tuple(str(number) for number in range(count))
