"""Values of options: sizes with and without a unit."""

import argparse

import pytest

from stemseg_core.command.values import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", ((64, 64), "px")),
        ("64px", ((64, 64), "px")),
        ("64x96", ((64, 96), "px")),
        ("3nm", ((3, 3), "nm")),
        ("2 x 3.5 nm", ((2, 3.5), "nm")),
        ("0.2A", ((0.02, 0.02), "nm")),
        ("20pm", ((0.02, 0.02), "nm")),
        (".5um", ((500, 500), "nm")),
        ("1e-3 µm", ((1, 1), "nm")),
        ("3nmx4nm", ((3, 4), "nm")),
        ("20pm x 0.3 A", ((0.02, 0.03), "nm")),
        ("64px x 96px", ((64, 96), "px")),
        ("0.02 * nanometer", ((0.02, 0.02), "nm")),
        ("2E-2 nm/pixel", ((0.02, 0.02), "nm")),
        ("0.2 angstrom", ((0.02, 0.02), "nm")),
        ("2e-11 m", ((0.02, 0.02), "nm")),
        ("20 NM", ((20, 20), "nm")),
    ],
)
def test_parse_size(text, size):
    (y, x), unit = parse_size(text)
    assert ((pytest.approx(y), pytest.approx(x)), unit) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nm",
        "x",
        "3 parsec",
        "-3",
        "1/nm",
        "3 1/nm",
        "3 nm^-1",
        "3nm x 4",
        "3px x 4nm",
        "3 10 nm",
        "2 mrad",
        "nan",
        "inf",
        "1.2.3",
        "64x",
    ],
)
def test_parse_size_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a size such as"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0.0nm", "0x3A", "5x0"])
def test_no_size_is_zero(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a size larger than 0, got '{text}'"):
        parse_size(text)
