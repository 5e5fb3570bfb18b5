"""Marks of reflections in the pictures of patterns."""

import numpy as np
import pytest

from stemseg_core import datasets, plot, segment
from stemseg_core.plot.marks import MOST_WRITTEN, marks_of


@pytest.fixture(scope="module")
def result():
    image, _ = datasets.crystal_amorphous_vacuum((400, 480), drift=0)
    return segment(image, 3, pixel_size=0.015)


def with_lattice(result):
    return next(i for i, lattice in enumerate(result.lattices) if lattice is not None)


def test_marks_lie_on_reflections(result):
    phase = with_lattice(result)
    marks = marks_of(result, phase)
    spacings = {s.d: (s.ky, s.kx) for s in result.lattices[phase].spacings}
    places = {(mark.ky, mark.kx) for mark in marks}
    assert places == {(-ky, -kx) for ky, kx in places}
    assert places <= {(sign * ky, sign * kx) for ky, kx in spacings.values() for sign in (1, -1)}
    written = [mark for mark in marks if mark.words]
    assert 1 <= len(written) <= MOST_WRITTEN
    for mark in written:
        assert float(mark.words.split()[0]) == pytest.approx(1 / np.hypot(mark.ky, mark.kx), rel=0.03)
        assert mark.words.endswith(" nm")
    assert all(marks_of(result, i) == [] for i, lattice in enumerate(result.lattices) if lattice is None)


def test_marks_are_in_the_picture(result):
    figure = plot.components(result)
    rings = [sum(len(line.get_xdata()) for line in ax.lines) for ax in figure.axes]
    assert rings == [len(marks_of(result, phase)) for phase in range(3)]
    phase = with_lattice(result)
    words = [text.get_text() for text in figure.axes[phase].texts]
    assert sorted(words) == sorted(mark.words for mark in marks_of(result, phase) if mark.words)
    frame = figure.axes[phase].bbox
    for text in figure.axes[phase].texts:
        box = text.get_window_extent(figure.canvas.get_renderer())
        assert box.x0 > frame.x0
        assert box.x1 < frame.x1
