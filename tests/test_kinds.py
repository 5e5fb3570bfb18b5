"""What a data set is by its axes (kinds), and which of several is meant (choice, signals)."""

import contextlib
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest

from stemseg_core.calibration.axes import Axis
from stemseg_core.io.choice import choose_signal, others
from stemseg_core.io.kinds import Layout, layout
from stemseg_core.io.signals import ImageReadError, array_signal, describe_signal

AXES = {
    "y": Axis("y", 0, 1, "nm"),
    "x": Axis("x", 0, 1, "nm"),
    "l": Axis("", 0, 1, "nm"),
    "E": Axis("Energy loss", 0, 1, "eV"),
    "w": Axis("Wavelength", 400, 1, "nm"),
    "k": Axis("ky", 0, 1, "1/nm"),
    "a": Axis("", 0, 1, "mrad"),
    "t": Axis("time", 0, 1, "s"),
    "n": Axis("number"),
    "-": Axis(""),
}


@pytest.mark.parametrize(
    ("axes", "navigation", "expected"),
    [
        ("--", None, ("image", (0, 1))),
        ("yx", "..", ("image", (0, 1))),
        ("xy", None, ("image", (0, 1))),
        ("tyx", "n..", ("stack", (1, 2))),
        ("xyt", None, ("stack", (0, 1))),
        ("tnyx", "nn..", ("stack", (2, 3))),
        ("yxE", "nn.", ("cube", (0, 1))),
        ("yxw", "nn.", ("cube", (0, 1))),
        ("Eyx", None, ("cube", (1, 2))),
        ("Eyx", "n..", ("cube", (1, 2))),  # energy-filtered images
        ("tyxE", "nnn.", ("cube", (1, 2))),
        ("ll-", "nn.", ("cube", (0, 1))),
        ("yxkk", "nn..", ("scan", (2, 3))),
        ("yxaa", None, ("scan", (2, 3))),
        ("----", None, ("scan", (2, 3))),
        ("llll", "nn..", ("scan", (2, 3))),
        ("kk", "..", ("pattern", (0, 1))),
        ("lkk", "n..", ("pattern", (1, 2))),
        ("-E", "n.", ("spectra", None)),
        ("E", ".", ("spectra", None)),
        ("yx", "nn", ("image", (0, 1))),  # a map whose axes were turned to navigation
        ("", None, ("other", None)),
    ],
)
def test_layout(axes, navigation, expected):
    shape = range(4, 4 + len(axes))
    flags = None if navigation is None else [flag == "n" for flag in navigation]
    assert layout(shape, [AXES[a] for a in axes], flags) == expected


def test_axes_of_one_point_are_no_sides():
    assert layout((1, 8, 9), [AXES[a] for a in "nyx"], [True, False, False]) == ("image", (1, 2))
    assert layout((1, 8, 9, 100), [AXES[a] for a in "nyxE"], [True, True, True, False]) == ("cube", (1, 2))
    assert layout((5, 5, 8, 8), (), [True, True, False, False], "electron_diffraction").kind == "scan"


def signals(*described):
    """Signals (title, array) of a file."""
    return [
        array_signal(i, title, array.shape, array.dtype, lambda a=array: contextlib.nullcontext(a))
        for i, (title, array) in enumerate(described)
    ]


def taken(*described):
    return choose_signal(Path("a.emd"), signals(*described), None).title


F4, U2, U1 = (np.zeros((8, 9), dtype) for dtype in ("f4", "u2", "u1"))


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (("O", "Fe", "HAADF", "BF"), "HAADF"),
        (("C K", "Si-K", "DF4"), "DF4"),
        (("B-D", "A-C", "iDPC", "BF"), "BF"),
        (("FFT", "Camera"), "Camera"),
        (("BF", "HAADF Detector"), "HAADF Detector"),
        (("STEM ABF", "STEM ADF"), "STEM ADF"),
        (("Fe", "O"), "Fe"),
        (("A - C", "Fe map", "20231010 1234 - HAADF 2.5 Mx"), "20231010 1234 - HAADF 2.5 Mx"),
        (("Se", "SE"), "SE"),
        (("HAADF preview", "HAADF FFT", "ADF"), "ADF"),
        (("Fe-EELS", "O EDS", "DF-S"), "DF-S"),
        (("EDS", "Ti K", "image 3"), "EDS"),
    ],
)
def test_detectors_come_before_maps(titles, expected):
    assert taken(*((title, U2) for title in titles)) == expected


def test_raw_data_come_before_previews_and_larger_images_before_small_ones():
    assert taken(("a", U1), ("b", U2)) == "b"
    assert taken(("a", np.zeros((8, 9, 3), "u1")), ("b", U1)) == "b"
    assert taken(("a", np.stack([F4, F4])), ("b", F4)) == "b"
    assert taken(("HAADF", F4[:4]), ("a", F4)) == "a"


def test_what_was_taken_is_said():
    found = signals(("O", U2), ("HAADF", U2), ("line", np.zeros(9)))
    note = others(choose_signal(Path("a.emd"), found, None), found)
    assert note == "taken: signal 1, 'HAADF'; others there are: 0: O"
    assert others(found[0], found[:1]) is None
    same = signals(("a", U1), ("a", U2))
    assert others(same[1], same) == "taken: signal 1, 'a'; others there are: 0: a (8 x 9 uint8)"


def test_cubes_and_scans_are_refused_unless_a_frame_is_asked_for():
    found = signals(("scan", np.zeros((3, 4, 5, 6))))
    with pytest.raises(ImageReadError, match=r"signal 0 \(scan, 3 x 4 x 5 x 6\) is a pattern.*stemseg unmix.*frame"):
        choose_signal(Path("a.npy"), found, None)
    assert choose_signal(Path("a.npy"), found, None, (1, 2)) is found[0]
    assert found[0].stack_shape == (3, 4)


@pytest.mark.parametrize(
    ("shape", "kind", "frame"),
    [((95, 95, 156), "cube", (95, 95)), ((95, 156, 156), "stack", (156, 156)), ((9, 8, 7), "stack", (8, 7))],
)
def test_arrays_of_three_axes(shape, kind, frame):
    values = np.zeros(shape, np.float32)
    signal = array_signal(0, "a", shape, values.dtype, lambda: contextlib.nullcontext(values))
    assert (signal.kind, signal.frame_shape) == (kind, frame)


@pytest.mark.parametrize(
    ("shape", "kind", "frame_shape"),
    [
        ((60, 80), "image", (60, 80)),
        ((60, 1), "image", (60, 1)),
        ((1, 1, 60, 80), "image", (60, 80)),
        ((60, 80, 1, 1), "image", (60, 80)),
        ((1, 6, 60, 80), "stack", (60, 80)),
        ((6, 60, 80), "stack", (60, 80)),
        ((5, 224, 1312), "stack", (224, 1312)),
        ((60, 80, 2), "stack", (60, 80)),
        ((4, 60, 80), "stack", (60, 80)),
        ((60, 80, 5), "cube", (60, 80)),
        ((95, 95, 156), "cube", (95, 95)),
        ((3, 3, 20), "stack", (3, 20)),
        ((7, 7, 7), "stack", (7, 7)),
        ((2, 3, 60, 80), "scan", (60, 80)),
        ((9,), "spectra", ()),
        ((1, 1, 1), "image", (1, 1)),
        ((), "other", ()),
        ((0, 5), "other", ()),
    ],
)
def test_arrays_without_axes(shape, kind, frame_shape):
    values = np.random.default_rng(0).random(shape)
    (signal,) = signals(("a", values))
    assert (signal.kind, signal.frame_shape) == (kind, frame_shape)
    if signal.n_frames:
        assert signal.frame(signal.n_frames - 1).shape == frame_shape
        assert signal.n_frames * np.prod(frame_shape) == values.size


def test_five_axes_are_frames_too():
    values = np.random.default_rng(0).random((2, 3, 4, 5, 6))
    (signal,) = signals(("a", values))
    assert (signal.kind, signal.stack_shape) == ("scan", (2, 3, 4))
    np.testing.assert_array_equal(signal.frame(13), values[1, 0, 1])


@pytest.mark.parametrize("dtype", ["f4", "i2", "u1"])
def test_channels_are_no_frames(dtype):
    values = np.arange(60 * 80 * 2).reshape(60, 80, 2).astype(dtype)
    signal = array_signal(0, "a", values.shape, values.dtype, lambda: contextlib.nullcontext(values))
    assert (signal.kind, signal.n_frames, signal.frame_shape) == ("stack", 2, (60, 80))
    np.testing.assert_array_equal(signal.frame(1), values[..., 1])
    np.testing.assert_array_equal(list(signal.frames()), np.moveaxis(values, 2, 0))
    one = array_signal(0, "a", (60, 80, 1), values.dtype, lambda: contextlib.nullcontext(values[..., :1]))
    assert (one.kind, one.n_frames) == ("image", 1)
    np.testing.assert_array_equal(one.frame(0), values[..., 0])


def test_every_frame_lies_where_its_axes_say(monkeypatch):
    values = np.random.default_rng(0).random((3, 5, 4, 6))
    opened = functools.partial(contextlib.nullcontext, values)
    for image, block in itertools.product(((1, 3), (3, 1), (0, 1)), (1, 500, 1e9)):
        monkeypatch.setattr("stemseg_core.io.signals.BLOCK_BYTES", block)
        signal = describe_signal(0, "a", values.shape, values.dtype, layout=Layout("stack", image), opened=opened)
        rest = [i for i in range(4) if i not in image]
        expected = np.transpose(values, (*rest, *image)).reshape(-1, *(values.shape[i] for i in image))
        assert signal.n_frames == len(expected)
        for i, frame in enumerate(signal.frames()):
            np.testing.assert_array_equal(frame, expected[i])
            np.testing.assert_array_equal(signal.frame(i), expected[i])
