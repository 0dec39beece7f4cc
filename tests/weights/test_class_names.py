"""Class names: ImageNet's in TFDS's order, a file's, or numbers."""

from pathlib import Path

import pytest

from alexnet_jax.data.tensorflow import tfds
from alexnet_jax.messages import UserError
from alexnet_jax.weights.class_names import class_names, imagenet


def test_the_synsets_are_tfds_own_and_each_has_words() -> None:
    synsets, words = imagenet()
    assert list(synsets) == Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    assert class_names(1000, "") == synsets
    assert len(words) == 1000 and all(words)
    said = dict(zip(synsets, words, strict=True))
    assert said["n01440764"] == "tench, Tinca tinca"
    assert said["n02012849"] == "crane" and said["n03126707"] == "crane"  # the bird and the machine
    assert words.index("toilet tissue, toilet paper, bathroom tissue") == 999


def test_other_numbers_have_a_file_s_names_or_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert class_names(3, "") == ("0", "1", "2")
    assert "the 3 classes have no names" in capsys.readouterr().err
    file = tmp_path / "names"
    file.write_text("pied wagtail\r\nStraße\n2\n\n", encoding="utf-8", newline="")
    assert class_names(3, str(file)) == ("pied wagtail", "Straße", "2")
    with pytest.raises(UserError, match=r"3 names in 3 lines, but the weights have 4 classes"):
        class_names(4, str(file))
    file.write_text("one\n\nthree\n")
    with pytest.raises(UserError, match="2 names in 3 lines"):
        class_names(3, str(file))
    for wrong in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="--classes="):
            class_names(3, str(wrong))
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="cannot be read"):
        class_names(1, str(file))
