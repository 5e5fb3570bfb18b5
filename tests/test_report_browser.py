"""The report in a browser: it is asked by pointer and keys, and complete without its script."""

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from hand_made import build, segmented
from matplotlib import colormaps

from stemseg_core.plot import explorer
from stemseg_core.plot.report import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")

READY = "document.querySelector('.explored')"


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def found():
    """Two phases, windows of 32 px every 8 px, pixels that are not square, and an excluded corner."""
    return segmented()


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(found, path, source="<b>image.tif")
    return path


@pytest.fixture
def page(browser, file):
    """The report, opened."""
    browser.open(file, ready=READY)
    yield browser
    assert browser.complaints() == []


def place(page, y, x):
    """Where a pixel of the image is seen."""
    left, top, width, height = page.run(
        "(r => [r.left, r.top, r.width, r.height])(document.getElementById('map').getBoundingClientRect())"
    )
    assert 0 <= top < 900 - height / 2
    return left + (x + 0.5) / 160 * width, top + (y + 0.5) / 128 * height


def answer(page):
    """What the page says of a window."""
    numbers = page.run("[...document.querySelectorAll('.memberships b')].map(b => b.textContent)")
    return page.text("#where"), page.text("#phase"), page.text("#sure"), numbers


def expected(s, row, column, y, x):
    """The same from the segmentation: of a window, and of a pixel."""
    phase = s.label_image[y, x]
    numbers = [*s.abundances[:, row, column], s.confidence[row, column], s.residual[row, column]]
    *members, sure, rest = [f"{value:.2f}" if np.isfinite(value) else "none" for value in numbers]
    where = f"x {(x + 0.5) * 0.03:.2f} nm, y {(y + 0.5) * 0.02:.2f} nm"
    return where, f"phase {phase + 1}" if phase >= 0 else "excluded", f"confidence {sure}, residual {rest}", members


def close(one, other):
    """Texts are equal but for the last digit of numbers, which are rounded twice."""
    return one[1] == other[1] and all(
        abs(float(a) - float(b)) < 0.011 if a[:1].isdigit() else a == b
        for text, same in zip((one[0], one[2], " ".join(one[3])), (other[0], other[2], " ".join(other[3])), strict=True)
        for a, b in zip(text.replace(",", " ").split(), same.replace(",", " ").split(), strict=True)
    )


@pytest.mark.parametrize(("y", "x"), [(64, 80), (100, 20), (60, 155), (127, 159), (5, 5), (20, 100)])
def test_pointer(page, found, y, x):
    """Coordinates and phase are of the pixel, the rest of the window with the nearest centre."""
    page.pointer(*place(page, y, x))
    row, column = np.clip(np.rint((np.array((y, x)) - 15.5) / 8), 0, np.array(found.labels.shape) - 1).astype(int)
    assert close(answer(page), expected(found, row, column, y, x)), (answer(page), expected(found, row, column, y, x))
    assert page.text("#held") == "under the pointer"
    pattern = explorer.windows_of(found).patterns[row, column]
    whole = np.concatenate([pattern[::-1, :0:-1], pattern], axis=1)
    drawn = page.run("[...document.querySelector('#window canvas').getContext('2d').getImageData(0, 0, 15, 15).data]")
    np.testing.assert_array_equal(
        np.reshape(drawn, (15, 15, 4))[..., :3], colormaps["magma"](whole, bytes=True)[..., :3]
    )


def test_mean_pattern_is_beside(page, found):
    page.pointer(*place(page, 64, 150))
    phase = found.label_image[64, 150] + 1
    assert page.text("#which") == f"mean of phase {phase}"
    assert page.run(
        "document.querySelector('#of-phase img').src === "
        f"document.querySelector('.card[data-phase=\"{phase}\"] img').src"
    )
    page.pointer(*place(page, 2, 2))
    assert page.run(
        "document.querySelector('#of-phase img') === null && document.getElementById('which').textContent === ''"
    )


def test_scale_bars_are_as_long_as_they_say(page):
    bars = page.run(
        "[...document.querySelectorAll('.scale')].map(s => [s.innerText, s.parentElement.clientWidth,"
        " parseFloat(getComputedStyle(s, '::after').width)])"
    )
    assert len(bars) == 1 + 1 + 2  # map, window, phases
    for i, (text, width, length) in enumerate(bars):
        value, whole = float(text.split()[0]), 160 * 0.03 if i == 0 else 15 / (32 * 0.03)
        assert length == pytest.approx(value / whole * width, abs=0.1)


def test_wide_maps_have_the_whole_width(browser, tmp_path):
    write_report(build(pixel_size=(0.1, 0.4)), tmp_path / "wide.html")
    browser.open(tmp_path / "wide.html", ready=READY)
    boxes = "['map', 'window'].map(i => document.getElementById(i).getBoundingClientRect().toJSON())"
    the_map, window = browser.run(boxes)
    assert the_map["width"] > 1250
    assert window["top"] >= the_map["bottom"] or window["left"] >= the_map["right"]
    assert browser.complaints() == []


def marker(page):
    """Corner of the outlined window, (y, x) in pixels, and its sides."""
    return page.run(
        "['y', 'x', 'height', 'width'].map(n => Number(document.querySelector('#marker rect').getAttribute(n)))"
    )


def test_click_holds_a_window(page):
    page.pointer(*place(page, 64, 80), click=True)
    before = answer(page)
    assert page.text("#held") == "held, Esc lets go"
    page.pointer(*place(page, 100, 20))
    assert answer(page) == before
    page.key("Escape", 27)
    page.pointer(*place(page, 100, 20))
    assert answer(page) != before
    page.pointer(*place(page, 64, 80), click=True)
    page.pointer(*place(page, 64, 80), click=True)  # a second one lets go
    assert page.text("#held") == "under the pointer"


def test_keys_go_from_window_to_window(page, found):
    page.key("Tab", 9)  # the first thing of the page that takes keys
    assert page.run("document.activeElement.id") == "map"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    ny, nx = found.labels.shape
    row, column = ny // 2, nx // 2
    assert marker(page) == [8 * row, 8 * column, 32, 32]
    for key, code, step in (("ArrowRight", 39, (0, 1)), ("ArrowDown", 40, (1, 0)), ("ArrowLeft", 37, (0, -1))):
        page.key(key, code)
        row, column = row + step[0], column + step[1]
        assert marker(page) == [8 * row, 8 * column, 32, 32]
    y, x = 8 * row + 15, 8 * column + 15  # the centre is half a pixel further
    where, phase, sure, members = expected(found, row, column, y, x)
    where = f"x {(x + 1) * 0.03:.2f} nm, y {(y + 1) * 0.02:.2f} nm"
    assert close(answer(page), (where, phase, sure, members)), answer(page)
    assert page.text("#said").startswith(f"{answer(page)[0]}: {phase}, confidence")
    assert page.text("#held") == "held, Esc lets go"
    for key, code, corner in (("PageUp", 33, (0, column)), ("Home", 36, (0, 0)), ("End", 35, (0, nx - 1))):
        page.key(key, code)
        assert marker(page)[:2] == [8 * corner[0], 8 * corner[1]]
    page.key("ArrowRight", 39)  # there is no further one
    assert marker(page)[:2] == [0, 8 * (nx - 1)]
    page.key("PageDown", 34)
    assert marker(page)[:2] == [8 * (ny - 1), 8 * (nx - 1)]
    assert page.run("scrollY") == 0


SEEN = (
    "[...document.querySelectorAll('#map img[data-phase]')].filter(i => i.checkVisibility()).map(i => i.dataset.phase)"
)


def test_one_phase_at_a_time(page):
    assert page.run(SEEN) == ["1", "2"]
    page.run("document.querySelector('input[value=\"2\"]').click()")
    assert page.run(SEEN) == ["2"]
    lines = (
        "[...document.querySelectorAll('#boundaries path')]"
        ".map(p => [p.dataset.phases, getComputedStyle(p).visibility])"
    )
    assert dict(page.run(lines)) == {"0 1": "hidden", "0 2": "visible", "1 2": "visible"}
    page.run("document.getElementById('map').focus()")
    page.key("1", 49, "1")
    assert page.run(SEEN) == ["1"]
    assert page.run("document.querySelector('input[name=phase]:checked').value") == "1"
    page.key("7", 55, "7")  # there is none
    assert page.run(SEEN) == ["1"]
    page.key("0", 48, "0")
    assert page.run(SEEN) == ["1", "2"]


def test_opacity(page):
    opacity = "getComputedStyle(document.querySelector('.colours')).opacity"
    assert page.run(opacity) == "0.5"
    page.run("document.getElementById('opacity').focus()")
    page.key("ArrowRight", 39)
    assert page.run(opacity) == "0.55"
    assert page.text("output") == "55 %"
    page.key("Home", 36)
    assert page.run(opacity) == "0"


def test_names_for_those_who_do_not_see(page):
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n["name"]["value"]) for n in nodes if n.get("name", {}).get("value")}
    assert ("slider", "Colours") in named
    assert {("radio", "show all"), ("radio", "show phase 1 alone"), ("radio", "show phase 2 alone")} <= named
    (the_map,) = [n for n in nodes if n["role"]["value"] == "application"]
    assert the_map["name"]["value"].startswith("The image with its phases in colour: phase 1")
    assert the_map["description"]["value"].startswith("Point at the map")
    unnamed = [
        n for n in nodes if n["role"]["value"] in ("radio", "slider", "button", "image") and not n["name"]["value"]
    ]
    assert unnamed == []


def test_text_of_users_is_text(page):
    assert page.text("h1") == "Phases of <b>image.tif"
    assert page.run("document.querySelectorAll('b').length") == 2  # where memberships stand


@pytest.mark.parametrize("width", [1400, 700, 320])
@pytest.mark.parametrize("script", [True, False])
def test_fits_into_any_width(browser, file, width, script):
    """700 px are also a screen of 1400 px at 200 %."""
    browser.call("Emulation.setScriptExecutionDisabled", value=not script)
    try:
        browser.open(file, size=(width, 900), ready=READY if script else "true")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.getElementById('map').getBoundingClientRect().width") > min(
            width - 40, 0.5 * width
        )
        assert browser.run("document.querySelector('#window').checkVisibility()") == script
        assert browser.run(SEEN) == ["1", "2"]
        assert browser.complaints() == []
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_complete_without_script(browser, file):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(file)
        assert browser.run("[...document.querySelectorAll('.asks')].some(e => e.checkVisibility())") is False
        assert browser.run("[...document.images].every(i => i.checkVisibility() && i.naturalWidth > 0)")
        assert browser.run("getComputedStyle(document.querySelector('.colours')).opacity") == "0.5"
        assert browser.run("document.getElementById('map').getAttribute('role')") == "img"
        assert "confidence" in browser.text(".phases")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_scheme_and_motion_are_those_of_the_reader(page):
    look = (
        "(getComputedStyle(document.body).backgroundColor"
        " + getComputedStyle(document.querySelector('.track i')).transitionDuration)"
    )
    assert page.run(look) == "rgb(255, 255, 255)0.12s"
    wishes = {"prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce"}
    page.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in wishes.items()])
    try:
        assert page.run(look) == "rgb(22, 22, 22)0s"
    finally:
        page.call("Emulation.setEmulatedMedia", features=[])


def test_browser_that_cannot_unpack(browser, file):
    """What needs the numbers of windows is not there; the rest works."""
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    try:
        browser.open(file, ready="document.getElementById('window').hidden")
        assert not browser.run("document.getElementById('window').checkVisibility()")
        assert not browser.run("document.getElementById('keys').checkVisibility()")  # they do nothing
        browser.run("document.querySelector('input[value=\"2\"]').click()")
        assert browser.run(SEEN) == ["2"]
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def test_one_phase_without_calibration(browser, tmp_path):
    one = np.zeros((5, 7), np.int32)
    s = build(
        labels=one,
        label_image=np.zeros((48, 64), np.int32),
        abundances=np.ones((1, 5, 7), np.float32),
        components=np.ones((1, 7, 7), np.float32),
        fractions=np.ones(1),
        confidence=np.full((5, 7), np.nan, np.float32),
        pixel_size=None,
    )
    write_report(s, tmp_path / "one.html")
    browser.open(tmp_path / "one.html", ready=READY)
    assert answer(browser) == ("x 32 px, y 24 px", "phase 1", "confidence none, residual 0.25", ["1.00"])
    assert browser.complaints() == []
