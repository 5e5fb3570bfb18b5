"""Pictures of an unmixing (plot/unmixing, plot/scales), and its report (unmixing_report, unmixing_explorer)."""

import re

import numpy as np
import pytest
from browser import CHROMIUM, Browser

from stemseg_core import Axis, unmix
from stemseg_core.plot.scales import shown_axis
from stemseg_core.plot.unmixing import PICTURES, titles_of
from stemseg_core.plot.unmixing_report import write_report

AXES = [
    {"name": "y", "scale": 0.5, "units": "nm"},
    {"name": "x", "scale": 0.5, "units": "nm"},
    {"name": "Energy", "offset": 0.1, "scale": 0.02, "units": "keV"},
]


def cube(shape=(12, 15), channels=60):
    rng = np.random.default_rng(0)
    spectra = np.exp(-((np.arange(channels) - np.array([[15], [35], [50]])) ** 2) / 8) + 0.05
    return rng.poisson(30 * rng.dirichlet(np.ones(3), shape) @ spectra)


@pytest.fixture(scope="module")
def spectra():
    mask = np.zeros((12, 15), bool)
    mask[:2, :3] = True
    return unmix(cube(), 3, axes=AXES, mask=mask)


@pytest.fixture(scope="module")
def patterns():
    return unmix(cube((5, 6), 36).reshape(5, 6, 6, 6), 2, method="kmeans", signal_axes=2)


@pytest.fixture(scope="module")
def line():
    return unmix(cube((40,)), 2, method="svd", axes=AXES[1:])


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("kind", ["spectra", "patterns", "line"])
def test_every_picture_of_every_kind(kind, name, request):
    unmixing = request.getfixturevalue(kind)
    figure = PICTURES[name](unmixing)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert 1 < width < 17
    assert 1 < height < 40


def test_spectra_are_over_their_axis_and_maps_have_a_scale_bar(spectra):
    shown = words(PICTURES["components"](spectra))
    assert "Energy (eV)" in shown
    lines = [
        line for ax in PICTURES["components"](spectra).axes for line in ax.get_lines() if len(line.get_xdata()) == 60
    ]
    assert len(lines) == 3
    for drawn, component in zip(lines, spectra.components, strict=True):
        np.testing.assert_allclose(drawn.get_xdata(), 100 + 20 * np.arange(60))
        np.testing.assert_allclose(drawn.get_ydata(), component)
    assert re.search(r"\d nm", words(PICTURES["abundances"](spectra)))
    assert len(titles_of(spectra)) == 3


@pytest.mark.parametrize(
    ("axis", "size", "expected"),
    [
        (Axis("E", 0.1, 0.02, "keV"), 60, Axis("E", 100, 20, "eV")),
        (Axis("E", 0, 10, "eV"), 2048, Axis("E", 0, 0.01, "keV")),
        (Axis("x", 0, 966, "nm"), 16, Axis("x", 0, 0.966, "\u00b5m")),
        (Axis("k", -1, 0.1, "1/nm"), 20, Axis("k", -1, 0.1, "nm\u207b\u00b9")),
        (Axis("channel", 0, 1, "px"), 20, Axis("channel", 0, 1, "")),
        (Axis("odd", 0, 1, "furlong"), 20, Axis("odd", 0, 1, "furlong")),
    ],
)
def test_units_that_people_say(axis, size, expected):
    found = shown_axis(axis, size)
    assert (found.name, found.units) == (expected.name, expected.units)
    np.testing.assert_allclose((found.offset, found.scale), (expected.offset, expected.scale))


@pytest.mark.parametrize("kind", ["spectra", "patterns", "line"])
def test_the_page_is_complete_and_escaped(kind, request, tmp_path):
    unmixing = request.getfixturevalue(kind)
    write_report(unmixing, tmp_path / "report.html", source="<b>cube.npy")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>cube" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    for note in unmixing.notes:
        assert note[0].upper() + note[1:] in page
    assert f"{100 * unmixing.explained_variance:.1f} % of the variance" in page
    assert all(f"<td>{name}</td>" in page or name in page for name in unmixing.params)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
def test_the_page_is_asked(spectra, tmp_path):
    spectra.report(tmp_path / "report.html")
    with Browser() as page:
        page.open(tmp_path / "report.html", ready="document.querySelector('.explored')")
        page.run("document.getElementById('map').focus()")
        page.key("Home")
        for _ in range(4):
            page.key("ArrowDown")
        for _ in range(7):
            page.key("ArrowRight")
        numbers = [
            float(n) for n in page.run("[...document.querySelectorAll('.memberships b')].map(b => b.textContent)")
        ]
        place = page.text("#where")
        complaints = page.complaints()
    assert complaints == []
    at = {name: float(number) for name, number in re.findall(r"(\w+) ([\d.]+) nm", place)}
    assert at["x"] == 3.5
    expected = spectra.abundances[:, round(at["y"] / 0.5), round(at["x"] / 0.5)]
    np.testing.assert_allclose(numbers, expected, rtol=0.02, atol=0.01)
