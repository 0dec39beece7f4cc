"""`words.txt`, written and read by one function each."""

from pathlib import Path

import pytest

from alexnet_jax.data.prepared.class_words import WORDS_FILE, read_words, write_words


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_words(tmp_path, ("n01", "n02"), ("tench, Tinca tinca", "café"))
    assert (tmp_path / WORDS_FILE).read_bytes() == "n01\ttench, Tinca tinca\nn02\tcafé\n".encode()
    assert read_words(tmp_path) == {"n01": "tench, Tinca tinca", "n02": "café"}


def test_a_missing_and_a_damaged_file_have_no_words(tmp_path: Path) -> None:
    assert read_words(tmp_path) == {}
    (tmp_path / WORDS_FILE).write_bytes(b"\xff\xfe no text")
    assert read_words(tmp_path) == {}
    with pytest.raises(ValueError, match="zip"):
        write_words(tmp_path, ("n01", "n02"), ("one",))
