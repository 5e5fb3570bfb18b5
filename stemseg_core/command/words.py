"""What the command says: sizes, and summaries of what was found, in words.

Tests: tests/test_cli.py, tests/test_info.py, tests/test_unmix_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stemseg_core.calibration.axes import Axis
from stemseg_core.io.choice import WORDS
from stemseg_core.io.kinds import IMAGES
from stemseg_core.lattices.lattice import Lattice
from stemseg_core.plot.drawing import percentages
from stemseg_core.stages.estimates import Separation


def plural(n: int, what: str) -> str:
    """``1 phase``, ``2 phases``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def times(sizes: Sequence[int]) -> str:
    """Sizes as in ``512 x 512``."""
    return " x ".join(map(str, sizes))


def segmentation_in_words(summary: dict[str, Any]) -> str:
    """What `stemseg segment` says at the end."""
    image, windows = summary["input"], summary["windows"]
    lines = [
        f"{image['file']}: {times(image['shape'])} {image['dtype']}, {_calibration_in_words(summary['calibration'])}"
    ]
    lines += [f"note: {note}" for note in image["notes"]]
    lines.append(
        f"{plural(len(summary['fractions']), 'phase')} from {times(windows['grid'])} windows of "
        f"{times(windows['window'])} px{_nm(windows['window_nm'])}, step {times(windows['step'])} px"
        f"{_nm(windows['step_nm'])}"
    )
    others = [times(size) for size in summary["parameters"]["windows"] or () if list(size) != windows["window"]]
    if others:
        lines[-1] += f", with windows of {' and '.join(others)} px"
    if summary["n_phases_estimate"] is not None:
        lines[-1] += "; the number of phases was found"
    for i, (share, found) in enumerate(zip(summary["fractions"], summary["lattices"], strict=True), start=1):
        lines.append(
            f"  phase {i}: {100 * share:5.1f} %, {Lattice.from_dict(found).words if found else 'no lattice seen'}"
        )
    lines += trust_in_words(summary)
    lines.append(f"in {summary['output']}: {', '.join(summary['files'])}")
    return "\n".join(lines)


def trust_in_words(summary: dict[str, Any]) -> list[str]:
    """How far to trust the map, beside what was warned of."""
    separation = summary["separation"] and Separation.from_dict(summary["separation"])
    warned = len(summary["fractions"]) > 1 and separation is not None and separation.by_chance
    lines = [] if summary["verdict"] is None or warned else [summary["verdict"]]
    if summary["confidence_mean"] is None:
        return lines
    confidence = f"mean confidence {summary['confidence_mean']:.2f}"
    if separation is None or not separation.exists or min(summary["fractions"]) == 0:
        return [*lines, f"{confidence}: it compares the phases, and does not say that they exist"]
    return [*lines, f"{confidence} (99 % of simulated windows at 0.5 are right)"]


def _nm(sizes: Sequence[float] | None) -> str:
    return "" if not sizes else f" ({' x '.join(f'{n:.3g}' for n in sizes)} nm)"


def _calibration_in_words(calibration: dict[str, Any]) -> str:
    if calibration["pixel_size"] is None:
        return "not calibrated (give --pixel-size)"
    y, x = calibration["pixel_size"]
    return f"{y:.4g}{'' if math.isclose(x, y, rel_tol=1e-4) else f' x {x:.4g}'} {calibration['units']} a pixel"


def unmixing_in_words(summary: dict[str, Any]) -> str:
    """What `stemseg unmix` says at the end."""
    cube, shares = summary["input"], summary["shares"]
    axes = ", ".join(str(Axis(**axis)) for axis in summary["axes"])
    lines = [f"{cube['file']}: {times(cube['map'])} x {times(cube['signal_shape'])} {cube['dtype']}; {axes}"]
    lines += [f"note: {note}" for note in (*cube["notes"], *summary["notes"])]
    found = " (found)" if summary["n_components_estimate"] is not None else ""
    lines.append(f"{plural(len(shares), 'component')}{found} by {summary['parameters']['method']}")
    lines += [f"  component {i}: {share}" for i, share in enumerate(percentages(np.array(shares)), start=1)]
    residual = summary["residual_mean"]
    left = "" if residual is None else f", mean residual of a pixel {residual:.3g} of its length"
    lines.append(f"explained variance {100 * summary['explained_variance']:.1f} %{left}")
    lines.append(f"in {summary['output']}: {', '.join(summary['files'])}")
    return "\n".join(lines)


def info_in_words(found: dict[str, Any]) -> str:
    """What `describe` found."""
    lines = [f"{found['file']}: {found['format']}, {plural(len(found['signals']), 'data set')}"]
    for s in found["signals"]:
        kind, size = WORDS.get(s["kind"], s["kind"]), f"{times(s['shape'])} " if s["shape"] else ""
        star = "*" if s["taken"] else " "
        lines.append(f"{star} {s['index']}: {size}{s['dtype']}, {kind}, {s['title']!r}")
        more = [", ".join(s["axes"])] if s["axes"] else []
        if s["kind"] in IMAGES:
            more.append(_calibration_in_words(s))
        if s["range"]:
            more.append(f"intensity {s['range'][0]:.6g} to {s['range'][1]:.6g}")
        if s["not_finite"]:
            more.append(f"{s['not_finite']} pixels are not finite: 'segment' needs --invalid exclude")
        lines += [f"     {line}" for line in (*more, *s["notes"])]
    return "\n".join([*lines, *_taken_in_words(found["signals"])])


def _taken_in_words(signals: Sequence[dict[str, Any]]) -> list[str]:
    """Which command takes what."""
    taken = next((s for s in signals if s["taken"]), None)
    star = f"* ({taken['title']})" if taken and len(signals) > 1 else "*"
    lines = []
    if taken is None:
        lines.append("no 2-D image in it: nothing that 'stemseg segment' could take")
    elif taken["window"] is None:
        lines.append(f"'stemseg segment' takes {star}")
    else:
        window, period = taken["window"], taken["period"]
        reason = f", as the longest period is {_in_words(period)}" if period else ""
        lines.append(f"'stemseg segment' takes {star}, by default with a window of {_in_words(window)}{reason}")
        if period and taken["strongest"] != period:
            lines.append(f"lattice planes {_in_words(taken['strongest'])} apart show most")
    cubes = [s for s in signals if s["unmixed"]]
    if cubes:
        lines.append(f"'stemseg unmix' takes {', '.join(map(_cube_in_words, cubes))}")
    return lines


def _cube_in_words(signal: dict[str, Any]) -> str:
    """``1: spectra of 2048 channels at 16 x 16 places``."""
    sizes, places = signal["unmixed"]["signal"], times(signal["unmixed"]["map"])
    what = f"spectra of {plural(sizes[0], 'channel')}" if len(sizes) == 1 else f"patterns of {times(sizes)}"
    return f"{signal['index']}: {what} at {places} places"


def _in_words(length: dict[str, Any]) -> str:
    """``64 px (1.28 nm)``; both axes where they differ."""
    pixels, nm = (_once(length[unit]) for unit in ("px", "nm"))
    return f"{' x '.join(f'{n:.3g}' for n in pixels)} px{_nm(nm)}"


def _once(sizes: Sequence[float] | None) -> Sequence[float]:
    """Sizes of both axes, or the one that they share."""
    return (sizes or ())[: 1 if sizes and math.isclose(*sizes, rel_tol=1e-4) else 2]
