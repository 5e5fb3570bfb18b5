"""Pictures, with their layout, drawing and curves: they say what the segmentation says, and leave no trace."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import TextArea
from matplotlib.patches import Rectangle

from stemseg_core import plot
from stemseg_core.phases.segment import Segmentation
from stemseg_core.plot import drawing
from stemseg_core.plot.layout import BAR_INSIDE, scale_bar_length
from stemseg_core.stages.estimates import Separation

PICTURES = [*plot.PICTURES, "plot"]


def build(shape=(96, 128), k=3, pixel_size=(0.015, 0.015), excluded=False, dtype=np.float32, window=32, step=8):
    """A segmentation of upright stripes."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 100, shape).astype(dtype)
    labels = np.broadcast_to(np.arange(shape[1]) * k // shape[1], shape).astype(np.int32)
    centers = [np.arange(0, n - window + 1, step) + (window - 1) / 2 for n in shape]
    grid = np.stack(np.meshgrid(*centers, indexing="ij"), axis=-1)
    coarse = labels[grid[..., 0].astype(int), grid[..., 1].astype(int)]
    memberships = np.where(np.arange(k)[:, None, None] == coarse, 0.9, 0.1 / max(k - 1, 1)).astype(np.float32)
    confidence, residual = (rng.uniform(0, 1, coarse.shape).astype(np.float32) for _ in range(2))
    if excluded:
        labels, coarse = labels.copy(), coarse.copy()
        labels[:20, :30] = -1
        coarse[0, 0] = -1
        memberships[:, 0, 0] = confidence[0, 0] = residual[0, 0] = np.nan
    h = (window - 1) // 4
    frequencies = np.arange(-h, h + 1) / window
    counts = np.bincount(labels[labels >= 0], minlength=k)
    return Segmentation(
        image=image,
        labels=coarse,
        label_image=labels,
        abundances=memberships,
        components=rng.uniform(0, 1, (k, 2 * h + 1, 2 * h + 1)).astype(np.float32),
        fractions=counts / counts.sum(),
        confidence=confidence,
        residual=residual,
        centers=grid.reshape(-1, 2),
        ky=frequencies,
        kx=frequencies,
        pixel_size=pixel_size,
        params={"n_phases": k, "scale": "sqrt"},
    )


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def scale_bar(ax):
    """Length on the screen in pixels, and the label, of an Axes' scale bar."""
    (bar,) = ax.findobj(lambda a: isinstance(a, Rectangle) and a.get_gid() == "scale bar")
    (text,) = (t.get_text() for t in ax.findobj(TextArea))
    return bar.get_window_extent(), text


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1},
        {"k": 9, "excluded": True},
        {"k": 23, "pixel_size": None},
        {"shape": (64, 700), "k": 5},
        {"shape": (700, 64), "excluded": True},
        {"shape": (32, 32)},
        {"pixel_size": (0.01, 0.03), "dtype": np.uint16},
    ],
)
def test_every_picture_of_every_shape(picture, options):
    figure = getattr(plot, picture)(build(**options))
    assert isinstance(figure, Figure)
    drawn = pixels(figure)
    assert drawn.std() > 5
    assert max(drawn.shape) < 2000
    for ax in figure.axes:  # nothing hangs over the edge
        box = ax.get_tightbbox()
        assert box.x0 >= -2
        assert box.x1 <= drawn.shape[1] + 2
        assert box.y0 >= -2
        assert box.y1 <= drawn.shape[0] + 2
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= drawn.shape[1] + 1
        assert box.y0 >= -1
        assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (300, 64)])
@pytest.mark.parametrize("pixel_size", [None, (0.015, 0.015), (0.02, 0.05)])
def test_picture_has_the_aspect_of_the_specimen(shape, pixel_size):
    py, px = pixel_size or (1, 1)
    for figure in (plot.overlay(build(shape, pixel_size=pixel_size)), plot.maps(build(shape, pixel_size=pixel_size))):
        pixels(figure)
        box = figure.axes[0].get_window_extent()
        assert box.width / box.height == pytest.approx(shape[1] * px / (shape[0] * py), rel=0.01)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "length", "label"),
    [
        ((512, 512), (0.015, 0.015), 2, "2 nm"),
        ((512, 512), None, 100, "100 px"),
        ((224, 1312), (0.015, 0.015), 2, "2 nm"),
        ((64, 64), (0.002, 0.004), 0.05, "0.05 nm"),
        ((100, 100), (3.0, 3.0), 50, "50 nm"),
    ],
)
def test_scale_bar_is_round_and_right_to_the_pixel(shape, pixel_size, length, label):
    figure = plot.overlay(build(shape, pixel_size=pixel_size))
    drawn = pixels(figure)
    ax = figure.axes[0]
    extent, text = scale_bar(ax)
    assert text == label
    per_pixel = ax.get_window_extent().width / shape[1] / (pixel_size[1] if pixel_size else 1)
    assert extent.width == pytest.approx(length * per_pixel, abs=0.01)
    # and so it is on the canvas: a run of white as long as that
    row = drawn[drawn.shape[0] - round((extent.y0 + extent.y1) / 2)]
    white = (row[round(extent.x0) + 1 : round(extent.x1) - 1] > 250).all(axis=1)
    assert white.all()
    outside = row[[round(extent.x0) - 2, round(extent.x1) + 1]]
    assert (outside < 200).any(axis=1).all()


@pytest.mark.parametrize("picture", ["overlay", "abundances", "maps", "plot"])
@pytest.mark.parametrize(
    ("shape", "pixel_size"),
    [
        ((64, 1024), None),
        ((1024, 64), None),
        ((512, 512), (0.01, 0.1)),
        ((512, 512), (0.1, 0.01)),
        ((64, 640), (0.02, 0.02)),
    ],
)
def test_scale_bar_does_not_hide_a_strip(picture, shape, pixel_size):
    figure = getattr(plot, picture)(build(shape, pixel_size=pixel_size))
    drawn = pixels(figure)
    ax = figure.axes[0]
    box = ax.get_window_extent()
    assert min(box.width, box.height) < BAR_INSIDE * figure.dpi
    assert max(box.width, box.height) <= 10 * figure.dpi + 1
    if picture == "overlay":
        assert min(box.width, box.height) > 0.6 * figure.dpi
    bar, _ = scale_bar(ax)
    assert bar.y1 < box.y0
    assert bar.x0 == pytest.approx(box.x0, abs=10)
    row = drawn[drawn.shape[0] - round((bar.y0 + bar.y1) / 2)]
    assert (row[round(bar.x0) + 1 : round(bar.x1) - 1] < 5).all()
    above = ax.artists[-1].get_window_extent()
    for other in figure.axes[1:]:
        assert not above.overlaps(other.get_window_extent())
    for legend in figure.legends:
        assert not above.overlaps(legend.get_window_extent())


def test_outermost_windows_are_marked():
    s = build((96, 128), pixel_size=(0.5, 0.25), window=32, step=8)
    for line in plot.overlay(s).axes[0].patches:
        assert line.get_bbox().extents == pytest.approx([16 * 0.25, 16 * 0.5, 112 * 0.25, 80 * 0.5])
    assert len(plot.overlay(s).axes[0].patches) == 2


def test_scale_bar_of_components_is_in_reciprocal_units():
    for pixel_size, expected in (((0.02, 0.02), "5 nm$^{-1}$"), (None, "0.1 px$^{-1}$")):
        figure = plot.components(build(pixel_size=pixel_size))
        pixels(figure)
        extent, text = scale_bar(figure.axes[0])
        assert text == expected
        reach = 15 / 32 / (pixel_size[0] if pixel_size else 1)  # 15 frequencies, 1/32 of a cycle per pixel apart
        share = extent.width / figure.axes[0].get_window_extent().width
        assert share == pytest.approx(float(text.split()[0]) / reach, rel=1e-3)


@pytest.mark.parametrize("width", [1e-7, 0.1, 0.99, 1.0, 3.3, 7.68, 99.0, 1e6])
def test_scale_bar_length_is_round(width):
    length = scale_bar_length(width)
    assert 0.1 * width < length <= 0.3 * width * 1.001
    assert f"{length:e}"[0] in "125"
    assert float(f"{length:.0e}") == length


@pytest.mark.parametrize(
    "fractions", [[1 / 3] * 3, [0.5, 0.5], [1.0], [1 / 7] * 7, [0.9996, 0.0004], [0.12345, 0.65432, 0.22223]]
)
def test_percentages_sum_to_a_hundred(fractions):
    shares = [float(share.removesuffix(" %")) for share in plot.percentages(np.array(fractions))]
    assert sum(shares) == pytest.approx(100, abs=1e-9)
    np.testing.assert_allclose(shares, 100 * np.array(fractions), atol=0.1)


def test_legend_names_every_phase_and_what_is_excluded():
    figure = plot.overlay(build(k=4, excluded=True))
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    phases = ["phase 1", "phase 2", "phase 3", "phase 4"]
    assert [t.split(":")[0] for t in texts] == [*phases, "excluded", "extrapolated outside"]
    assert sum(float(t.split()[2]) for t in texts[:-2]) == pytest.approx(100)
    assert len(plot.overlay(build(k=4)).legends[0].get_texts()) == 5


def test_legend_is_below_a_strip_and_beside_the_rest():
    for shape, below in (((64, 640), True), ((64, 64), False), ((640, 64), False)):
        figure = plot.overlay(build(shape))
        pixels(figure)
        legend, ax = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
        assert (legend.y1 <= ax.y0) == below
        assert (legend.x0 >= ax.x1) != below


def test_overlay_colors_each_phase_where_it_is():
    s = build((64, 64), k=2, pixel_size=None, excluded=True)
    s.image[:] = 0
    figure = plot.overlay(s, alpha=1.0)
    drawn = pixels(figure)
    ax = figure.axes[0]
    for x, color in ((15, plot.OKABE_ITO[0]), (50, plot.OKABE_ITO[1])):
        col, row = ax.transData.transform((x, 40))
        expected = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        np.testing.assert_allclose(drawn[drawn.shape[0] - round(row), round(col)], expected, atol=2)
    col, row = ax.transData.transform((10, 10))  # excluded: grey
    assert np.ptp(drawn[drawn.shape[0] - round(row), round(col)].astype(int)) <= 2


def test_boundaries_follow_the_pixels():
    s = build((4, 6), k=2, pixel_size=(2.0, 0.5), window=2, step=1)
    edges = drawing.label_edges(s.label_image)
    np.testing.assert_array_equal(edges, [[[3, y], [3, y + 1]] for y in range(4)])
    lines = plot.overlay(s).axes[0].collections[0].get_segments()
    np.testing.assert_array_equal(lines, edges * (0.5, 2.0))


def test_large_label_maps_are_thinned_in_place():
    s = build((64, 5001), k=3, pixel_size=(0.1, 0.1), window=64, step=64)
    ax = plot.overlay(s).axes[0]
    assert ax.images[1].get_array().shape[:2] == (32, 2501)
    x = np.unique([line[:, 0] for line in ax.collections[0].get_segments()])
    np.testing.assert_allclose(x, [166.7, 333.4], atol=0.2)
    assert ax.get_xlim() == (0, pytest.approx(500.1))


def test_maps_lie_where_their_windows_are():
    s = build((96, 128), pixel_size=(0.5, 0.25), window=32, step=8)
    ax = plot.maps(s).axes[0]
    left, right, bottom, top = ax.images[0].get_extent()
    # First window: pixels 0 to 31, middle 16; each map pixel is 8 wide around it.
    assert (left, top) == (12 * 0.25, 12 * 0.5)
    assert (right, bottom) == ((128 - 12) * 0.25, (96 - 12) * 0.5)
    assert ax.get_xlim() == (0, 32)
    assert ax.get_ylim() == (48, 0)


def test_center_of_a_pattern_does_not_blow_out_the_scale():
    s = build(k=2)
    s.components[:, 7, 7] = 1e6
    image = plot.components(s).axes[0].images[0]
    assert image.get_clim()[1] <= 1


@pytest.mark.parametrize("k", [1, 2, 7, 8, 20, 21, 60])
def test_colors_differ(k):
    assert len(set(plot.phase_colors(k))) == k


def test_degenerate_images():
    for value in (0.0, 7.0, np.nan):
        s = build()
        s.image[:] = value
        s.components[:] = 0
        s.residual[:] = np.nan if np.isnan(value) else 0
        for picture in PICTURES:
            pixels(getattr(plot, picture)(s))


def test_draws_into_given_axes():
    figure = Figure()
    ax = figure.subplots(1, 2)[1]
    assert plot.overlay(build(), ax=ax) is figure
    assert len(ax.images) == 2
    assert len(ax.get_legend().get_texts()) == 4


def test_pyplot_is_not_imported():
    code = "import sys, stemseg_core.plot as p; assert 'matplotlib' not in sys.modules; p.phase_colors(9); "
    code += "p.new_figure(2, 2); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_the_legend_of_an_overlay_stays_short():
    figure = plot.overlay(build(k=24))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) <= drawing.MAX_LEGEND_ENTRIES + 3
    assert f"and {24 - drawing.MAX_LEGEND_ENTRIES} more" in texts


def test_an_overlay_says_if_chance_would_have_done():
    separation = Separation(2, 3.0, 4.0)
    doubtful = replace(build(k=2), separation=separation)
    texts = [t.get_text() for t in plot.overlay(doubtful).legends[0].get_texts()]
    assert " ".join(texts[-1].split()) == doubtful.verdict


@pytest.mark.parametrize("value", [3.0, 9.0])
def test_the_overview_says_the_verdict(value):
    judged = replace(build(k=2), separation=Separation(2, value, 4.0))
    figure = plot.plot(judged)
    figure.canvas.draw()
    (text,) = figure.texts
    assert " ".join(text.get_text().split()) == judged.verdict
    box = text.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1 < min(ax.get_tightbbox().y0 for ax in figure.axes)
