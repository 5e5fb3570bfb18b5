"""Segmentation: files that hold everything or are refused, axes, and what it calls."""

import dataclasses
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from stemseg_core import ComponentEstimate, Segmentation, datasets, segment
from stemseg_core.phases.segmentation import FORMAT
from stemseg_core.stages.estimates import Curve, Separation


def build(k=3, excluded=True, **changes):
    """A segmentation with all kinds of values in it; no two arrays are alike."""
    rng = np.random.default_rng(0)
    ny, nx = 4, 5
    abundances = rng.dirichlet(np.ones(k), (ny, nx)).transpose(2, 0, 1).astype(np.float32)
    labels = abundances.argmax(axis=0).astype(np.int32)
    label_image = rng.integers(0, k, (40, 56), dtype=np.int32)
    residual, confidence = rng.random((2, ny, nx), np.float32)
    if excluded:
        labels[1, 2] = -1
        label_image[:3, 5:9] = -1
        for array in (abundances[:, 1], residual[1], confidence[1]):
            array[..., 2] = np.nan
    values = {
        "image": rng.integers(0, 1000, (40, 56)).astype(np.uint16),
        "labels": labels,
        "label_image": label_image,
        "abundances": abundances,
        "components": rng.random((k, 7, 9), np.float32),
        "fractions": rng.dirichlet(np.ones(k)),
        "confidence": confidence,
        "residual": residual,
        "centers": rng.random((ny * nx, 2)),
        "ky": np.arange(-3, 4) / 16,
        "kx": np.arange(-4, 5) / 24,
        "pixel_size": (0.02, 0.03),
        "units": "nm",
        "params": {"window": (16, 24), "method": "kmeans", "random_state": 0, "taper": ("kaiser", 8.6), "zoom": 2},
        "versions": {"numpy": "2", "µ": "Å"},
    }
    return Segmentation(**values | changes)


def assert_same(a, b):
    for field in dataclasses.fields(Segmentation):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
            assert type(one) is type(other)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"excluded": False},
        {"pixel_size": None},
        {"pixel_size": (0.1, 0.1), "units": "µm"},
        {"k": 1},
        {"image": np.full((40, 56), np.nan, np.float32)},
        {"image": np.asfortranarray(np.arange(2240.0).reshape(40, 56)).astype(">f8")},
        {"params": {}, "versions": {}},
        {"separation": Separation(3, 7.5, 4.25)},
    ],
    ids=str,
)
def test_file_keeps_every_field(tmp_path, changes):
    result = build(**changes)
    path = tmp_path / "result.npz"
    result.save(path)
    assert_same(result, Segmentation.load(path))
    assert_same(result, Segmentation.load(str(path)))
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]


def test_file_is_npz_and_json_without_pickle(tmp_path):
    build().save(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz", allow_pickle=False) as stored:
        rest = json.loads(str(stored["json"]))
        arrays = set(stored) - {"json"}
        assert all(stored[name].dtype != object for name in stored)
    assert rest["format"] == FORMAT
    assert arrays | set(rest) - {"format"} == {field.name for field in dataclasses.fields(Segmentation)}


def doubtful(k, value, areas=(), shape=(200, 300), **changes):
    """A segmentation with windows of 33 x 33 px whose phases are so far apart and so large."""
    label_image = np.zeros(shape, np.int32)
    for phase, area in enumerate(areas, start=1):
        label_image.flat[phase * 10_000 : phase * 10_000 + area] = phase
    if not areas:
        label_image[:] = np.arange(shape[1]) * k // shape[1]
    counted = np.bincount(label_image.ravel(), minlength=k)
    changes = {"fractions": counted / label_image.size, "label_image": label_image} | changes
    changes = {"image": np.zeros(shape), "centers": np.full((20, 2), 16.0)} | changes
    return build(k, excluded=False, separation=Separation(max(k, 2), value, 4.0), **changes)


def test_phases_that_are_separated_raise_no_doubts():
    assert doubtful(3, 4.1).doubts == ()
    assert doubtful(3, np.nan).doubts == ()  # that is not known
    assert dataclasses.replace(doubtful(3, 1), separation=None).doubts == ()
    assert doubtful(1, 1).doubts == ()


@pytest.mark.parametrize(("value", "words"), [(3.96, "3.960, chance gives 4.000"), (1.0, "1.0, chance")])
def test_phases_no_better_separated_than_chance(value, words):
    result = doubtful(3, value)
    (doubt,) = result.doubts
    assert result.verdict.startswith("the 3 phases are no better separated than chance")
    assert words in result.verdict
    assert doubt == f"{result.verdict}; the image may have fewer, or one that changes gradually"


def test_the_verdict_on_phases():
    assert doubtful(3, 9).verdict == "the 3 phases are better separated than chance: 9.0, chance gives 4.0"
    assert doubtful(3, 4.1).verdict == "the 3 phases are hardly better separated than chance: 4.1, chance gives 4.0"
    assert "too small to judge, a boundary, or a gradual change" in doubtful(3, np.nan).verdict
    assert doubtful(1, 4.1).verdict is None
    assert dataclasses.replace(doubtful(3, 9), separation=None).verdict is None


def test_phases_with_hardly_a_pixel():
    (doubt,) = doubtful(4, 9, areas=(5000, 200, 0)).doubts
    assert doubt.startswith("2 of the 4 phases have fewer than 272 pixels, a quarter of a window, 1 of them none at")
    (doubt,) = doubtful(3, 9, areas=(5000, 200)).doubts
    assert "none at all" not in doubt
    assert doubtful(3, 9, areas=(5000, 300)).doubts == ()
    nothing = np.full((200, 300), -1, np.int32)
    assert doubtful(3, 9, label_image=nothing).doubts == ()  # all is excluded


def test_why_one_phase():
    curve = Curve(1, np.array([1, 2]), np.array([np.nan, 3.9]), np.array([np.nan, 4.0]))
    estimate = ComponentEstimate(1, "separation", {"separation": curve})
    assert doubtful(1, 3.9, estimate=estimate).verdict == (
        "1 phase: 2, of larger numbers the best separated, are no better separated than chance: 3.9, chance gives 4.0"
    )
    none = dataclasses.replace(doubtful(1, 3.9, estimate=estimate), separation=None)
    assert none.verdict == "1 phase: of no larger number would each fill a window somewhere"


def test_file_replaces_an_older_one(tmp_path):
    build(k=2).save(tmp_path / "result.npz")
    build(k=4).save(tmp_path / "result.npz")
    assert len(Segmentation.load(tmp_path / "result.npz").fractions) == 4


@pytest.mark.parametrize("changes", [{"params": {"a": object()}}, {"units": {1, 2}}], ids=["params", "units"])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, changes):
    path = tmp_path / "result.npz"
    build().save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        build(**changes).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.npz"
    build().save(path)
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        build(k=2).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_object_arrays_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="image: arrays of objects"):
        build(image=np.full((40, 56), None)).save(tmp_path / "result.npz")
    assert not list(tmp_path.iterdir())


def write_npz(path, **changes):
    """A saved file with some members changed; None leaves one out."""
    build().save(path)
    with np.load(path) as stored:
        members = dict(stored) | changes
    np.savez(path, **{name: value for name, value in members.items() if value is not None})


def write_json(path, text):
    write_npz(path, json=np.array(text))


def truncate(path, share):
    build().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def write_npy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def damage(path):
    build().save(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("image.npy")
    data = bytearray(path.read_bytes())
    start = info.header_offset + 200
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)


NOT_OURS = {
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "npy": write_npy,
    "pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "zip": lambda path: zipfile.ZipFile(path, "w").close(),
    "other npz": lambda path: np.savez(path, a=np.ones(3)),
    "truncated": lambda path: truncate(path, 0.9),
    "half": lambda path: truncate(path, 0.5),
    "damaged": damage,
    "no labels": lambda path: write_npz(path, labels=None),
    "no json": lambda path: write_npz(path, json=None),
    "pickled": lambda path: write_npz(path, image=np.full((40, 56), None)),
    "shapes": lambda path: write_npz(path, confidence=np.ones((2, 2))),
    "one axis": lambda path: write_npz(path, labels=np.ones(3)),
    "json of something": lambda path: write_json(path, "[1, 2]"),
    "broken json": lambda path: write_json(path, "{"),
    "no format": lambda path: write_json(path, "{}"),
    "too little": lambda path: write_json(path, json.dumps({"format": FORMAT})),
    "too much": lambda path: write_json(path, json.dumps({"format": FORMAT, "params": {}, "colour": "red"})),
    "params of something": lambda path: write_json(path, json.dumps({"format": FORMAT, "params": [1]})),
}


@pytest.mark.parametrize("kind", NOT_OURS)
@pytest.mark.filterwarnings("error")
def test_files_that_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "strange.npz"
    NOT_OURS[kind](path)
    with pytest.raises(ValueError, match=r"strange\.npz: not a file that Segmentation\.save wrote, or damaged"):
        Segmentation.load(path)


def test_a_newer_format_is_named(tmp_path):
    path = tmp_path / "newer.npz"
    np.savez(path, json=np.array(json.dumps({"format": FORMAT + 1, "maps": []})))
    with pytest.raises(ValueError, match=rf"newer\.npz: file format {FORMAT + 1}, .* reads {FORMAT}"):
        Segmentation.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Segmentation.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError):
        build().save(tmp_path / "nowhere" / "result.npz")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("abundances", np.ones((2, 4, 5))),
        ("confidence", np.ones((5, 4))),
        ("residual", np.ones(20)),
        ("centers", np.ones((4, 5))),
        ("fractions", np.ones(2)),
        ("label_image", np.ones((56, 40), np.int32)),
        ("components", np.ones((3, 9, 7))),
    ],
)
def test_shapes_must_fit(field, value):
    with pytest.raises(ValueError, match=f"{field} must have shape"):
        build(**{field: value})


def test_repr():
    fractions = np.array([0.5, 0.3, 0.2])
    assert repr(build(fractions=fractions)) == (
        "Segmentation(3 phases: 50.0 %, 30.0 %, 20.0 %; image 40 x 56, 4 x 5 windows)"
    )
    assert repr(build(k=1, fractions=np.ones(1))) == "Segmentation(1 phase: 100.0 %; image 40 x 56, 4 x 5 windows)"


def test_frequency_axes():
    result = build()
    ky, kx = result.frequency_axes
    np.testing.assert_allclose(ky, result.ky / 0.02)
    np.testing.assert_allclose(kx, result.kx / 0.03)
    ky, kx = build(pixel_size=None).frequency_axes
    np.testing.assert_array_equal(ky, result.ky)
    np.testing.assert_array_equal(kx, result.kx)


def test_to_dict():
    result = build()
    found = result.to_dict()
    assert list(found) == [field.name for field in dataclasses.fields(Segmentation)]
    assert found["image"] is result.image
    json.dumps({name: value for name, value in found.items() if not isinstance(value, np.ndarray)})
    assert_same(result, Segmentation(**found))


def test_cannot_be_reassigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        build().units = "m"


def test_plot_and_report(tmp_path):
    result = build(centers=np.stack(np.mgrid[:4, :5], axis=-1).reshape(-1, 2) * 8 + 7.5)
    figure = result.plot()
    assert len(figure.axes) >= 3
    result.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_reading_a_file_needs_no_matplotlib(tmp_path):
    build().save(tmp_path / "result.npz")
    code = (
        "import sys; from stemseg_core import Segmentation; Segmentation.load(sys.argv[1]);"
        " print('matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, tmp_path / "result.npz"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# Windows.


def windows_at(ny, nx, window=(16, 24), step=(4, 6)):
    """Centres of a grid of windows."""
    y, x = (np.arange(n) * s + (w - 1) / 2 for n, w, s in zip((ny, nx), window, step, strict=True))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def test_window_and_step_follow_from_the_centres(tmp_path):
    result = build(centers=windows_at(4, 5), params={})
    assert (result.window, result.step) == ((16, 24), (4, 6))
    result.save(tmp_path / "result.npz")
    again = Segmentation.load(tmp_path / "result.npz")
    assert (again.window, again.step) == ((16, 24), (4, 6))


@pytest.mark.parametrize(
    ("shape", "params", "step"),
    [
        ((1, 5), {"step": (5, 6)}, (5, 6)),
        ((4, 1), {"step": [4, 7]}, (4, 7)),
        ((1, 1), {"step": 3}, (3, 3)),
        ((1, 5), {}, (16, 6)),
        ((1, 1), {}, (16, 24)),
    ],
)
def test_step_of_one_window_along_an_axis(shape, params, step):
    maps = {"labels": np.zeros(shape, np.int32), "abundances": np.ones((1, *shape), np.float32)}
    maps |= {name: np.zeros(shape, np.float32) for name in ("confidence", "residual")}
    result = build(1, excluded=False, centers=windows_at(*shape), params=params, **maps)
    assert (result.window, result.step) == ((16, 24), step)


def test_window_and_step_are_those_asked_for():
    image, _ = datasets.two_phase((128, 96))
    result = segment(image, 2, window=(32, 48), step=(8, 12))
    assert (result.window, result.step) == ((32, 48), (8, 12))
