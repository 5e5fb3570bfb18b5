"""What a report can be asked: the layers of its map, and what it holds of windows."""

import base64
import io
import json
import re
import zlib

import numpy as np
import pytest
from hand_made import build, segmented
from matplotlib import colormaps
from PIL import Image

from stemseg_core import WindowFFT
from stemseg_core.plot import cards, explorer, phase_colors
from stemseg_core.plot.drawing import label_edges


@pytest.fixture(scope="module")
def found():
    """A map of windows of 32 px, every 8 px, with an excluded corner."""
    return segmented()


def pictures(html):
    """The pictures of a piece of HTML."""
    data = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(some))) for some in data]


def test_numbers_are_those_of_the_windows(found):
    windows = explorer.windows_of(found)
    assert windows.stride == 1
    expected = np.stack([*found.abundances, found.confidence, found.residual], axis=-1)
    excluded = found.labels < 0
    assert excluded.any()
    assert (windows.numbers[excluded] == explorer.NO_NUMBER).all()
    assert np.abs(windows.numbers[~excluded] / 100 - expected[~excluded]).max() <= 0.005 + 1e-6


def test_one_phase_has_no_confidence():
    s = build(confidence=np.full((5, 7), np.nan, np.float32))
    assert (explorer.windows_of(s).numbers[..., 2] == explorer.NO_NUMBER).all()


def test_patterns_are_the_transforms_of_the_windows(found):
    """By the definition: mean away, taper, transform, root of the modulus, on one scale."""
    patterns = explorer.windows_of(found).patterns
    assert patterns.shape == (*found.labels.shape, 15, 8)
    assert not patterns[found.labels < 0].any()
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(32) / 32)
    spectra = {}
    for y, x in np.argwhere(found.labels >= 0).tolist():
        window = found.image[8 * y : 8 * y + 32, 8 * x : 8 * x + 32].astype(float)
        plane = np.fft.fftshift(np.fft.fft2((window - window.mean()) * taper * taper[:, np.newaxis]))
        spectra[y, x] = np.sqrt(np.abs(plane[16 - 7 : 16 + 8, 16:24]))
    places, values = tuple(np.array(list(spectra)).T), np.stack(list(spectra.values()))
    away = np.hypot(*np.mgrid[-7:8, :8]) >= 2.5
    low, high = np.percentile(values[:, away], (1, 99.8))
    expected = np.clip(255 * (values - low) / (high - low), 0, 255)
    assert np.abs(patterns[places] - expected).max() < 0.6


def test_holds_as_many_windows_as_fit(found, monkeypatch):
    everything = explorer.windows_of(found)
    monkeypatch.setattr(explorer, "WINDOW_BYTES", everything.numbers.size // 4 * (15 * 8 + 4) // 5)
    fewer = explorer.windows_of(found)
    assert fewer.stride == 3
    np.testing.assert_array_equal(fewer.numbers, everything.numbers[::3, ::3])
    data = explorer.data_of(found)
    assert data["step"] == [24, 24]
    assert data["grid"] == fewer.numbers.shape[:2]
    assert "one window of every 3 x 3" in explorer.window_panel(found, data)
    monkeypatch.setattr(explorer, "WINDOW_BYTES", 1)
    assert explorer.windows_of(found).numbers.shape[:2] == (1, 1)


def test_no_patterns_of_other_frequencies():
    """As of a result that somebody else has made: the rest of the page works."""
    s = build(components=np.ones((2, 5, 7), np.float32), ky=np.arange(-2, 3) / 16)
    assert explorer.windows_of(s).patterns is None
    data = explorer.data_of(s)
    assert data["pattern"] is None
    assert "<canvas" not in explorer.window_panel(s, data)
    assert "<canvas" in explorer.window_panel(build(), explorer.data_of(build()))


def test_data_is_packed_in_the_order_that_is_said(found):
    data = json.loads(json.dumps(explorer.data_of(found)))
    packed = zlib.decompress(base64.b64decode(data["bytes"]))
    windows = explorer.windows_of(found)
    labels = np.frombuffer(packed, "<u2", np.prod(data["labels"])).reshape(data["labels"])
    np.testing.assert_array_equal(labels.astype(int) - 1, found.label_image)
    rest = np.frombuffer(packed, np.uint8)[2 * labels.size :]
    np.testing.assert_array_equal(rest[: windows.numbers.size], windows.numbers.ravel())
    np.testing.assert_array_equal(rest[windows.numbers.size :], windows.patterns.ravel())
    assert (data["units"], data["pixel"], data["window"]) == ("nm", [0.02, 0.03], [32, 32])
    assert explorer.data_of(build(pixel_size=None))["units"] == "px"


def test_map_in_layers(found):
    layers = pictures(explorer.phase_map(found, "a map"))
    image, *phases, excluded = layers
    assert image.size == (160, 128)
    assert len(phases) == 2
    for i, (layer, color) in enumerate(zip(phases, phase_colors(2), strict=True)):
        rgba = np.asarray(layer.convert("RGBA"))
        where = found.label_image == i
        assert where.any()
        np.testing.assert_array_equal(rgba[..., 3], 255 * where)
        assert {bytes(pixel).hex() for pixel in rgba[where][:, :3]} == {color[1:].lower()}
    opacity = np.asarray(excluded.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(opacity > 0, found.label_image < 0)


def test_gray_from_dark_to_bright():
    image = np.tile(np.arange(100.0), (60, 1))
    labels = np.zeros((60, 100), np.int32)
    image[0, 0] = np.nan
    gray, *_ = pictures(explorer.phase_map(build(image=image, label_image=labels), ""))
    gray = np.asarray(gray)
    assert gray[0, 0] == 0x9A
    assert gray[30, 0] == 0
    assert gray[30, 99] == 255
    assert (np.diff(gray[30].astype(int)) >= 0).all()


def test_brightness_of_what_is_not_finite():
    for dtype in (np.float16, np.float32, np.float64):
        values = np.array([-np.inf, -1, 0, 1, 1000, np.inf, np.nan], dtype)
        assert explorer.brightness(values, -1.0, 1.0).tolist() == [0, 0, 128, 255, 255, 255, 0]


def test_large_images_are_shown_smaller(monkeypatch):
    monkeypatch.setattr(explorer, "MAP_PIXELS", 32)
    s = build()
    labels = explorer.shown_labels(s)
    assert labels.shape == (24, 32)
    np.testing.assert_array_equal(labels, s.label_image[1::2, 1::2])
    html = explorer.phase_map(s, "")
    assert [picture.size for picture in pictures(html)] == 3 * [(32, 24)]
    assert 'transform="scale(2 2)"' in html


def edges_of(html):
    """Every pixel edge of the boundaries, with the phases it is between."""
    found = []
    for low, high, path in re.findall(r'data-phases="(\d+) (\d+)" d="([^"]*)"', html):
        for x, y, along, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path):
            ahead = np.array((1, 0) if along == "h" else (0, 1))
            starts = np.array((int(x), int(y))) + ahead * np.arange(int(length))[:, np.newaxis]
            found += [(*start, *(start + ahead), int(low), int(high)) for start in starts.tolist()]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_boundaries_are_all_edges_between_phases(seed):
    labels = np.random.default_rng(seed).integers(-1, 3, (48, 64)).astype(np.int32)
    s = build(label_image=labels)
    edges = edges_of(explorer.phase_map(s, ""))
    assert sorted(edge[:4] for edge in edges) == sorted(map(tuple, label_edges(labels).reshape(-1, 4).tolist()))
    for x, y, right, _, low, high in edges:
        beside = (labels[y - 1, x], labels[y, x]) if right > x else (labels[y, x - 1], labels[y, x])
        assert tuple(sorted(value + 1 for value in beside)) == (low, high)


def test_maps_of_specks_have_no_lines(monkeypatch):
    assert len(edges_of(explorer.phase_map(build(), ""))) == 48
    monkeypatch.setattr(explorer, "MAX_EDGES", 47)
    assert edges_of(explorer.phase_map(build(), "")) == []


def test_lines_through_the_outermost_centres():
    html = explorer.phase_map(build(), "")
    assert html.count('x="8" y="8" width="48" height="32"') == 2


def test_shapes_are_those_of_lengths():
    """Pixels are twice as high as wide: an image of 48 x 64 is higher than wide, and a pattern wider than high."""
    rules = explorer.rules(build())
    assert ".explorer { --aspect: 0.666667; --length: 0.125 }" in rules  # 24 x 16 nm, a bar of 2
    assert ".pattern { --aspect: 2; --length: 0.285714 }" in rules  # 0.875 x 1.75 / nm, a bar of 0.5
    assert f".p2 {{ --phase: {phase_colors(2)[1]} }}" in rules
    assert '<span class="scale">2 nm</span>' in explorer.phase_map(build(), "")
    assert '<span class="scale">0.5 nm<sup>-1</sup></span>' in cards.pattern(build(), 0)


def test_pattern_of_a_phase():
    s = build()
    (picture,) = pictures(cards.pattern(s, 1))
    shown = s.components[1]
    low, high = np.percentile(shown[np.hypot(*np.mgrid[-3:4, -3:4]) >= 2.5], (1, 99.8))
    expected = colormaps["magma"](np.clip((shown - low) / (high - low), 0, 1), bytes=True)[..., :3]
    difference = np.asarray(picture.convert("RGB")).astype(int) - expected
    assert np.abs(difference).max() <= 4  # a step of the colours


def test_scales_other_than_the_root(found):
    """Moduli are shown as roots, as in the picture of patterns; a taper that is a list is one that JSON has kept."""
    params = found.params | {"scale": "abs", "taper": ["kaiser", 8.0]}
    s = type(found)(**found.to_dict() | {"params": params, "estimate": None, "separation": None})
    rows = WindowFFT(32, 8, taper=("kaiser", 8.0), scale="abs").matrix(found.image)
    patterns = explorer.windows_of(s).patterns
    roots = np.sqrt(rows.to_image(np.asarray(rows)))[..., 7:].reshape(*found.labels.shape, 15, 8)
    included = found.labels >= 0
    assert np.corrcoef(patterns[included].ravel(), roots[included].ravel())[0, 1] > 0.98
