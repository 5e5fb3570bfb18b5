"""Calibration of TIFF, from the tags in which microscopes and programs write it.

Tests: tests/test_tiff.py.
"""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from stemseg_core.calibration.axes import Axis, Described, calibrated_axis
from stemseg_core.calibration.units import parse_unit

#: Axes by their letters, with what is to be noted on them.
Scales: TypeAlias = dict[str, Described]

#: Size of a pixel in nm from which on a plain resolution tag describes a sheet of paper (25 400 dots per inch), and is
#: not used. Twice as much: some scans of paper would be taken for calibrated images.
LARGEST_SCANNED_PIXEL_NM = 1000.0
#: Flags of tifffile and tags of the files whose calibration RosettaSciIO may know: others need not be opened by it.
VENDORS = {"fei", "sem", "sis", "tvips"}
VENDOR_TAGS = ("Make", "Artist")
#: Tags of DigitalMicrograph for unit, offset and scale; HyperSpy writes them, too.
DIGITAL_MICROGRAPH = {"X": (65003, 65006, 65009), "Y": (65004, 65007, 65010), "Z": (65005, 65008, 65011)}
#: Names of axes in words, as this package writes them.
NAMES = {"X": "x", "Y": "y", "Z": "z", "T": "t"}
#: Axes of RosettaSciIO's dictionaries.
ROSETTA = {"width": "X", "height": "Y", "depth": "Z"}


def tiff_axes(path: Path, tiff: Any) -> list[list[Described]]:
    """Axes of every series of an open TIFF but its colour samples, by the first source that calibrates its images."""
    vendor = functools.cache(functools.partial(_rosetta, path))
    return [
        _first_calibrated(series.axes.replace("S", ""), _sources(tiff, index, series.keyframe, vendor))
        for index, series in enumerate(tiff.series)
    ]


def _sources(tiff: Any, index: int, page: Any, vendor: Callable[[], list[Scales]]) -> Iterator[Scales]:
    """What each source says of the axes of a series; the most telling first, read when asked for."""
    if tiff.is_ome:
        yield _ome(tiff.ome_metadata, index)
    yield _digital_micrograph(page)
    if tiff.is_imagej:
        yield _imagej(tiff)
    elif tiff.flags & VENDORS or any(tag in page.tags for tag in VENDOR_TAGS):
        yield from vendor()[index : index + 1]
    yield _resolution(page)


def _first_calibrated(letters: str, sources: Iterable[Scales]) -> list[Described]:
    """Axes by the first source that has a calibration for x and y; else without, and why the first has none."""
    failed: list[Described] | None = None
    for scales in sources:
        if not {"X", "Y"} & scales.keys():
            continue
        axes = [scales.get(a, (Axis(_name(a)), None)) for a in letters]
        image = [axes[letters.index(a)] for a in "YX" if a in letters]
        if all(axis.kind not in ("none", "pixel", "unknown") for axis, _ in image):
            return axes
        if failed is None and any(note or axis.kind == "length" for axis, note in image):
            failed = axes
    return failed or [(Axis(_name(a)), None) for a in letters]


def _name(letter: str) -> str:
    return NAMES.get(letter, letter.lower())


def _ome(xml: str | None, index: int) -> Scales:
    """OME-XML: the physical size of a pixel of image number `index`, each axis in its own unit, the micrometre if none.

    Source: OME Data Model, element Pixels.
    """
    try:
        images = [e for e in ElementTree.fromstring(xml or "").iter() if e.tag.rpartition("}")[2] == "Pixels"]
    except ElementTree.ParseError:
        return {}
    if not images:
        return {}
    about = images[min(index, len(images) - 1)].attrib
    return {
        a: calibrated_axis(_name(a), about[f"PhysicalSize{a}"], about.get(f"PhysicalSize{a}Unit", "um"))
        for a in "XYZ"
        if f"PhysicalSize{a}" in about
    }


def _digital_micrograph(page: Any) -> Scales:
    """Tags of DigitalMicrograph: each axis with its unit and its offset, in that unit."""
    scales: Scales = {}
    for axis, (unit, offset, scale) in DIGITAL_MICROGRAPH.items():
        if scale in page.tags:
            scales[axis] = calibrated_axis(_name(axis), _value(page, scale), _value(page, unit), _value(page, offset))
    return scales


def _imagej(tiff: Any) -> Scales:
    """ImageJ: resolution tags are pixels per unit; units and origins, in pixels, stand in its description."""
    about: dict[str, Any] = tiff.imagej_metadata or {}
    unit, scales = about.get("unit"), _tag_scales(tiff.pages[0])
    if not scales:
        return {}
    y, x = scales
    found: Scales = {}
    for axis, scale, its_unit in (("Y", y, about.get("yunit", unit)), ("X", x, unit)):
        origin = _float(about.get(f"{axis.lower()}origin"))
        found[axis] = _unless_paper(_name(axis), scale, its_unit, -origin * scale)
    found["Z"] = calibrated_axis("z", about.get("spacing"), about.get("zunit", unit))
    found["T"] = calibrated_axis("t", about.get("finterval"), about.get("tunit", "s"))
    return found


def _rosetta(path: Path) -> list[Scales]:
    """Axes of every series, from what FEI, Zeiss, JEOL, TVIPS, Olympus, ... write, where RosettaSciIO knows it."""
    try:
        from rsciio.tiff import file_reader

        described = file_reader(str(path), lazy=True)
        found: list[Scales] = [
            {
                ROSETTA[axis["name"]]: calibrated_axis(
                    _name(ROSETTA[axis["name"]]), axis.get("scale"), axis["units"], axis.get("offset")
                )
                for axis in signal["axes"]
                if axis.get("name") in ROSETTA and axis.get("units")
            }
            for signal in described
        ]
        del described
    except Exception:  # a calibration that cannot be read is a calibration that is not there
        found = []
    gc.collect()  # the lazy reader leaves the file open, in a reference cycle
    return found


def _resolution(page: Any) -> Scales:
    """Plain resolution tags, in inches or centimetres, where they describe a specimen rather than a sheet of paper."""
    unit = {2: "inch", 3: "cm"}.get(int(_float(_value(page, "ResolutionUnit"))))
    scales = _tag_scales(page)
    if unit is None or not scales:
        return {}
    small = all(0 < size * parse_unit(unit).factor < LARGEST_SCANNED_PIXEL_NM for size in scales)
    return {a: calibrated_axis(_name(a), size, unit) for a, size in zip("YX", scales, strict=True)} if small else {}


def _unless_paper(name: str, scale: float, unit: object, offset: float) -> Described:
    """An axis, without a calibration if it is in inches, as ImageJ has it of whatever was opened as a scan of paper."""
    inch = parse_unit("inch").factor
    if parse_unit(unit).factor == inch and scale * inch > LARGEST_SCANNED_PIXEL_NM:
        return Axis(name), f"a scale of {scale:.3g} inch is that of paper; not used"
    return calibrated_axis(name, scale, unit, offset)


def _tag_scales(page: Any) -> list[float]:
    """Unit per pixel, (y, x), of the resolution tags, infinite where they are 0; empty if they are missing."""
    try:
        pixels = [page.tags[name].value for name in ("YResolution", "XResolution")]
        return [units / n if n else math.inf for n, units in pixels]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _value(page: Any, tag: int | str) -> Any:
    """Value of a tag; None if there is none."""
    return page.tags[tag].value if tag in page.tags else None


def _float(value: Any) -> float:
    """A number from a tag; 0 if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
