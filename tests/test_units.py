"""Units and axes (calibration.units, calibration.axes): every spelling of a unit, sizes that are no calibration."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemseg_core.calibration.axes import Axis, calibrated_axis, image_calibration, is_pattern
from stemseg_core.calibration.units import parse_unit

#: Spellings of files, packages and people, with kind and factor to nm, 1/nm, mrad, eV, s.
SPELLINGS = {
    ("length", 1.0): [
        "nm",
        "NM",
        "Nm",
        " nm ",
        "[nm]",
        "(nm)",
        "n_m",
        "[n_m]",
        "nanometer",
        "nanometers",
        "Nanometres",
    ],
    ("length", 1e3): ["um", "UM", "\u00b5m", "\u03bcm", r"\u00B5m", "\u00c2\u00b5m", "micron", "Microns", "micrometer"],
    ("length", 0.1): [
        "A",
        "\u00c5",
        "\u212b",
        "A\u030a",
        "ang",
        "Angstrom",
        "ANGSTROMS",
        "\u00e5ngstr\u00f6m",
        "\u00c3\u0085",
    ],
    ("length", 1e-3): ["pm", "PM", "picometer", "picometers", "p_m"],
    ("length", 1e6): ["mm", "MM", "millimeters"],
    ("length", 1e7): ["cm", "centimetre"],
    ("length", 1e9): ["m", "M", "meter", "meters"],
    ("length", 1e15): ["Mm"],
    ("length", 2.54e7): ["inch", "in", "Inches"],
    ("length", 10.0): ["10 nm", "10*nm", "1e-8 m", "10^-8 m"],
    ("reciprocal length", 1.0): [
        "1/nm",
        "nm^-1",
        "nm-1",
        "nm**-1",
        "nm\u207b\u00b9",
        "1 / nm",
        "[1/nm]",
        "nm^(-1)",
        "[n_m^-1]",
        "1/(nm)",
        "(nm)^-1",
        "1/n_m",
        "NM-1",
    ],
    ("reciprocal length", 10.0): ["1/A", "1/\u00c5", "A^-1", "\u00c5\u207b\u00b9", "A-1", "A_^-1"],
    ("reciprocal length", 1e-7): ["cm^-1", "1/cm"],
    ("angle", 1.0): ["mrad", "MRAD", "milliradian", "m_rad"],
    ("angle", 1e3): ["rad", "radians"],
    ("angle", 1e3 * math.pi / 180): ["deg", "\u00b0", "degrees"],
    ("energy", 1.0): ["eV", "ev", "EV", "electron_volt", "electronvolt"],
    ("energy", 1e3): ["keV", "KeV", "KEV", "kiloelectronvolt"],
    ("energy", 1e-3): ["meV"],
    ("energy", 1e6): ["MeV"],
    ("time", 1.0): ["s", "sec", "seconds"],
    ("time", 1e-6): ["us", "\u00b5s"],
    ("time", 60.0): ["min"],
    ("pixel", 1.0): ["px", "pixel", "Pixels", "PX", "1/px"],
    ("none", 1.0): ["", " ", "<undefined>", "None", "-", "[]", "\x00", "unitless"],
    ("unknown", 1.0): [
        "furlong",
        "nm2",
        "MEV",
        "V",
        "counts",
        "\ufffdm",
        "nm/",
        "/nm",
        "((",
        "nm)",
        "2",
        "0",
        "nm^99999",
        "1/0",
        "nm^-1^-1",
        "a.u.",
        "x" * 1000,
        "nm\n\nnm^nm",
        "1e999 nm",
        "\u0661nm^\u0662",
    ],
}


@pytest.mark.parametrize(
    ("meaning", "texts"), SPELLINGS.items(), ids=[f"{kind} {factor:g}" for kind, factor in SPELLINGS]
)
def test_spellings(meaning, texts):
    for text in texts:
        for spelled in (text, text.encode()):
            unit = parse_unit(spelled)
            assert (unit.kind, unit.factor) == (meaning[0], pytest.approx(meaning[1], rel=1e-12)), text


@pytest.mark.parametrize(("text", "kind"), [("nm/px", "length"), ("nm per pixel", "length"), ("mrad/pixel", "angle")])
def test_every_scale_is_per_pixel(text, kind):
    assert parse_unit(text).kind == kind


def test_bytes_of_old_instruments():
    assert parse_unit("\u00b5m".encode("latin-1")).factor == 1e3
    assert parse_unit(None).kind == parse_unit(np.array([1])).kind == "none"


prefixes = st.sampled_from(["", "f", "p", "n", "u", "\u00b5", "\u03bc", "m", "c", "d", "k"])
long_prefixes = st.sampled_from(["", "femto", "pico", "nano", "micro", "milli", "centi", "kilo"])
symbols = st.sampled_from(["m", "s", "rad", "eV"])
names = st.sampled_from(
    ["meter", "meters", "metre", "second", "seconds", "radian", "electron_volt", "angstrom", "inch"]
)
words = st.one_of(st.tuples(prefixes, symbols), st.tuples(long_prefixes, names)).map("".join)
spelled_powers = st.sampled_from(["", "^-1", "**-1", "**2", "^1", " ** -1"])
terms = st.one_of(st.tuples(words, spelled_powers).map("".join), st.just("1"), st.just("2.5"), st.just("pixel"))
products = st.lists(st.tuples(terms, st.sampled_from([" * ", "/", " / ", "*"])), min_size=1, max_size=4).map(
    lambda parts: "".join(term + operator for term, operator in parts).rstrip(" */")
)


@given(products)
def test_products_mean_what_pint_says(text):
    pint = pytest.importorskip("pint")
    registry = pint.get_application_registry()
    quantity = registry.Quantity(text)
    ours = parse_unit(text)
    kinds = {"length": "nm", "reciprocal length": "1/nm", "energy": "eV", "time": "s"}
    if ours.kind in kinds:
        # a scale is per pixel: that pint keeps, and we drop
        per_pixel = quantity if quantity.check(kinds[ours.kind]) else quantity * registry.pixel
        assert ours.factor == pytest.approx(per_pixel.to(ours.symbol).magnitude, rel=1e-9)
    else:
        assert not any(quantity.check(dimension) for dimension in ("[length]", "1/[length]", "[time]", "[energy]"))


@settings(max_examples=40)
@given(st.one_of(st.text(max_size=90), st.text(alphabet="numMAeVrads1/^-*_()[]. \u00b5\u00c5px", max_size=20)))
def test_no_text_breaks_the_parser(text):
    unit = parse_unit(text)
    assert unit.factor > 0
    assert math.isfinite(unit.factor)
    assert unit.kind not in ("none", "unknown") or unit.factor == 1
    assert parse_unit(unit.symbol).factor in (1, unit.factor) or unit.kind == "unknown"


# --- axes ----------------------------------------------------------------------------------------------------------


def test_an_axis_is_in_the_units_of_the_package():
    axis, note = calibrated_axis("x", 0.2, "A", -3)
    assert (axis.name, axis.units, axis.kind, note) == ("x", "nm", "length", None)
    np.testing.assert_allclose((axis.scale, axis.offset), (0.02, -0.3))
    energy, note = calibrated_axis("E", -0.5, "keV", 2)
    assert (energy, note) == (Axis("E", 2000.0, -500.0, "eV"), None)
    assert str(axis) == "x: 0.02 nm"
    assert str(Axis("y")) == "y"


@pytest.mark.parametrize(
    ("scale", "units", "words"),
    [
        (0, "nm", "0 nm is no calibration"),
        (math.nan, "nm", "nan nm is no calibration"),
        (math.inf, "mrad", "inf mrad is no calibration"),
        (-1, "nm", "-1 nm is no size of a pixel"),
        (-10, "A", "-10 A is no size"),
        (1e17, "nm", "1e[+]17 nm is no size"),
        (1, "m", "1 m is no size"),
        (None, "nm", "a unit, nm, but no scale"),
        ("?", "nm", "a unit, nm, but no scale"),
        (0.02, "furlong", "'furlong' is not understood"),
        (0.02, None, "a scale of 0.02 has no unit"),
    ],
)
def test_what_is_no_calibration_is_named(scale, units, words):
    y, x = (calibrated_axis(name, scale, units) for name in "yx")
    assert y[0].kind in ("none", "unknown")
    size, (note,) = image_calibration((y, x))
    assert size is None
    assert re.match(f"y and x: .*{words}", note)


@pytest.mark.parametrize(("scale", "units"), [(1, None), (None, None), (1, "px"), (0, ""), (7, "pixels")])
def test_what_says_nothing_needs_no_note(scale, units):
    axis = calibrated_axis("y", scale, units)
    assert axis[0].scale == 1
    assert image_calibration((axis, axis)) == (None, ())


def test_pixel_sizes_of_images_and_patterns():
    nm, pm = calibrated_axis("y", 0.02, "nm"), calibrated_axis("x", 30, "pm")
    assert image_calibration((nm, pm)) == (pytest.approx((0.02, 0.03)), ())
    reciprocal, angle = calibrated_axis("ky", 0.1, "1/nm"), calibrated_axis("kx", 1, "mrad")
    assert is_pattern((reciprocal[0], angle[0]))
    assert not is_pattern((nm[0], angle[0]))
    size, (note,) = image_calibration((reciprocal, angle))
    assert size is None
    assert "axes in 1/nm and mrad: a diffraction pattern" in note
    assert "only one axis" in image_calibration((nm, (Axis("x"), None)))[1][0]
    assert image_calibration(((Axis("t", 0, 1, "s"), None), nm))[1] == (
        "the scale of its axes (t: 1 s) is not a length; not used",
    )


@pytest.mark.parametrize("text", ["eV", "keV", "nm", "\u00b5m", "mrad", "1/nm", "deg", "pixel"])
def test_spelled_out_by_underscores_as_in_rosettasciios_emd(text):
    spelled = parse_unit(f"[{'_'.join(text)}]")
    assert (spelled.kind, spelled.factor) == (parse_unit(text).kind, parse_unit(text).factor) != ("unknown", 1.0)


def test_notes_on_axes_without_names_call_them_y_and_x():
    _, notes = image_calibration([(Axis(""), "odd"), (Axis(""), "odder")])
    assert notes == ("y: odd", "x: odder")
