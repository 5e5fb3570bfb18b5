"""Lattices of the phases of a segmentation, and the table of its regions."""

import csv
import io
import json
from dataclasses import replace
from math import pi, sqrt

import numpy as np
import pytest

from stemseg_core import Lattice, Segmentation, datasets, segment
from stemseg_core.lattices.lattice import uncertain
from stemseg_core.lattices.measure import least_area
from stemseg_core.lattices.properties import Phases, write_regions


@pytest.fixture(scope="module")
def result():
    image, _ = datasets.two_phase((384, 448), angle=25, pixel_size=0.02, drift=0)
    return segment(image, 2, pixel_size=0.02)


def test_lattices_of_a_segmentation(result, tmp_path):
    assert all(isinstance(found, Lattice) for found in result.lattices)
    assert result.lattices is result.lattices
    assert sorted(round(found.angle) for found in result.lattices) == [0, 25]
    text = json.dumps([found.to_dict() for found in result.lattices])
    assert json.loads(text)[0]["a"] == result.lattices[0].a
    assert json.loads(text)[0]["spacings"][0]["indices"] == list(result.lattices[0].spacings[0].indices)
    assert result.lattices[0].words.startswith(
        f"a = {uncertain(result.lattices[0].a, result.lattices[0].a_uncertainty)}"
    )
    result.save(tmp_path / "result.npz")
    assert "lattices" not in result.to_dict()
    again = Segmentation.load(tmp_path / "result.npz")
    assert again.lattices == result.lattices
    assert again.regions == result.regions


# Regions.


@pytest.fixture
def few():
    labels = np.array(
        [
            [0, 0, 1, 1, -1],
            [0, 1, 0, 0, -1],
            [1, 1, 0, 0, 2],
        ],
        np.int32,
    )
    return Phases(np.ones(labels.shape), labels, 3, (4, 4), (0.5, 0.25), "nm", turned=False)


def test_regions_by_their_definition(few):
    """As regionprops: pixels that touch by a corner are of one region, centres of pixels are whole numbers."""
    regions = few.regions((None, None, None))
    assert [(r.phase, r.n_pixels) for r in regions] == [(0, 7), (1, 5), (2, 1)]
    places = np.argwhere(few.labels == 0)
    assert regions[0].centroid == pytest.approx(tuple(places.mean(axis=0) * (0.5, 0.25)))
    assert regions[0].area == pytest.approx(7 * 0.5 * 0.25)
    assert regions[0].equivalent_diameter == pytest.approx(sqrt(4 * 7 * 0.5 * 0.25 / pi))
    assert regions[0].box == (0, 0, 3, 4)
    assert regions[2].box == (2, 4, 3, 5)
    assert all(r.lattice is None for r in regions)


def test_specks_are_not_looked_at(monkeypatch):
    """No window lies in them: no lattice is looked for, of materials either."""
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 200)) < 0.2).astype(np.int32)
    image = rng.standard_normal(labels.shape)
    looked = []
    for name in ("find_cell", "cell_again"):
        monkeypatch.setattr(f"stemseg_core.lattices.properties.{name}", lambda *given: looked.append(given))
    phases = Phases(image, labels, 2, (32, 32), None, "nm", turned=True)
    regions = phases.regions(phases.cells())
    assert len(regions) > 500
    assert len(looked) <= 2  # the ground, once for the phase
    assert all(least_area((32, 32)) <= given[1].sum() for given in looked)


def test_regions_as_a_table(few, result):
    for regions, units in ((few.regions((None,) * 3), "nm"), (result.regions, "nm")):
        stream = io.StringIO()
        write_regions(stream, regions)
        rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
        assert [int(row["phase"]) for row in rows] == [region.phase + 1 for region in regions]
        assert [float(row[f"area_{units}2"]) for row in rows] == pytest.approx([r.area for r in regions], rel=1e-6)
        for row, region in zip(rows, regions, strict=True):
            turned = "" if region.lattice is None else f"{region.lattice.angle:.7g}"
            assert row["angle_degrees"] == turned
    assert sum(r.n_pixels for r in result.regions) == np.count_nonzero(result.label_image >= 0)
    assert sum(r.lattice is not None for r in result.regions) >= 2


@pytest.mark.parametrize(("n", "window"), [(300, 16), (300, 85), (900, 32)])
@pytest.mark.parametrize("turned", [False, True])
def test_memory_is_at_most_what_was_predicted(n, window, turned, peak_bytes):
    y, x = np.mgrid[:n, :n]
    image = (np.sin(2 * np.pi * x / 6) + np.sin(2 * np.pi * (0.1 * x + y) / 6)).astype(np.float32)
    image += np.random.default_rng(0).standard_normal(image.shape, np.float32)
    phases = Phases(image, np.zeros(image.shape, np.int32), 1, (window, window), None, "nm", turned=turned)
    centers = phases.window[0] / 2 + 4.0 * np.argwhere(np.ones(((n - window) // 4, (n - window) // 4)))

    def measure():
        cells = phases.cells()
        assert cells[0] is not None
        phases.regions(cells)
        phases.turn(cells, centers)

    peak = peak_bytes(measure)
    assert peak < phases.predicted_bytes < 4 * peak


def test_too_little_memory_is_refused_before_lattices_are_measured(result, monkeypatch):
    monkeypatch.setattr("stemseg_core.system.memory.available_memory", lambda: 1e6)
    with pytest.raises(MemoryError, match=r"measuring lattices in 384 x 448 px needs .* segment a part of the image"):
        _ = replace(result).lattices
