"""The report, with its cards of phases, markup and instructions: complete, self-contained, safe."""

import base64
import hashlib
import io
import json
import os
import re
import shlex
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hand_made import PARAMS, build
from PIL import Image

from stemseg_core import datasets, segment
from stemseg_core.command import cli
from stemseg_core.io import write_tiff
from stemseg_core.lattices.lattice import uncertain
from stemseg_core.phases.segment import Segmentation
from stemseg_core.plot import cards, report
from stemseg_core.plot.layout import Picture
from stemseg_core.plot.report import write_report


class Page(HTMLParser):
    """Tags with their attributes, table rows, text, style and scripts of a page; checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self.open, self.code = [], [], "", [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            self.code.append(data)
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page(tmp_path, segmentation=None, **options):
    write_report(segmentation or build(), tmp_path / "report.html", **options)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_holds_every_parameter_and_version(tmp_path):
    rows = page(tmp_path).rows
    for name, value in PARAMS.items():
        assert [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)] in rows
    assert ["numpy", "9.9.9"] in rows
    assert ["blas", "openblas <x>"] in rows


def test_table_of_phases(tmp_path):
    rows = page(tmp_path).rows
    assert rows[0] == ["phase", "fraction", "area / nm2", "mean confidence"]
    assert rows[1] == ["1", "62.5 %", "240.0", "0.75"]
    assert rows[2] == ["2", "37.5 %", "144.0", "0.75"]


def test_not_calibrated(tmp_path):
    found = page(tmp_path, build(pixel_size=None))
    assert found.rows[0][2] == "area / pixels"
    assert found.rows[1][2] == "1920"
    assert "not calibrated" in found.text
    assert "nm" not in found.text


def test_explains_confidence_and_residual(tmp_path):
    text = page(tmp_path).text
    assert report.CONFIDENCE in text
    assert report.RESIDUAL in text
    assert report.OUTERMOST in text
    assert text.count(report.FRAME) == 2
    assert report.KEYS in text


def test_height_comes_first(tmp_path):
    text = page(tmp_path).text
    assert "48 x 64 pixels (height x width) · 24 x 16 nm · 0.5 x 0.25 nm a pixel · 5 x 7 windows" in text


def test_needs_nothing_else(tmp_path):
    found = page(tmp_path, source="a.dm4")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\(", html)
    assert os.listdir(tmp_path) == ["report.html"]
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(pictures) == 1 + 2 + 2 + 2  # the image, for each phase where it is and its pattern, two of maps
    for attributes in pictures:
        kind, data = attributes["src"].split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size[0] > 6
    assert sum(len(attributes["alt"]) > 20 for attributes in pictures) == 4  # layers of the map are one picture
    assert dict(found.tags)["html"] == {"lang": "en"}
    (the_map,) = [attributes for _, attributes in found.tags if attributes.get("id") == "map"]
    assert the_map["role"] == "img"
    assert the_map["aria-label"] == "The image with its phases in colour: phase 1 62.5 %, phase 2 37.5 %."


def test_policy_allows_what_the_page_holds_and_nothing_else(tmp_path):
    found = page(tmp_path)
    style, data, script = found.code
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    (policy,) = [a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv")]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("style-src") == sha256(style)
    assert rules.pop("script-src") == sha256(script)
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert not [attributes for _, attributes in found.tags if "style" in attributes or "onclick" in attributes]
    assert json.loads(data)["image"] == [48, 64]
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", script)


def sha256(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_escapes_what_it_is_given(tmp_path):
    nasty = "</script><script>alert('x')</script>&.tif"
    params = PARAMS | {"note<b>": nasty}
    found = page(tmp_path, build(params=params, units="</script><u>"), title=f"T {nasty}", source=nasty)
    assert "u" not in {tag for tag, _ in found.tags}
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 2
    assert json.loads(found.code[1])["units"] == "</script><u>"
    assert f"T {nasty}" in found.text
    assert ["note<b>", nasty] in found.rows


def test_warnings_come_before_the_map(tmp_path):
    params = PARAMS | {"window": [16, 16]}
    s = build(params=params, fractions=np.array([0.999, 0.001]))
    assert len(s.doubts) == 1
    page(tmp_path, s)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    warning = f'<p class="verdict"><strong>Warning:</strong> {s.doubts[0]}.</p>'
    assert html.count(warning) == 1
    assert html.index(warning) < html.index('id="map"')


def test_cards_of_phases(tmp_path):
    text = page(tmp_path).text
    assert f"Phase 1 62.5 %, 240.0 nm2{cards.NO_LATTICE}" in text
    assert f"Phase 2 37.5 %, 144.0 nm2{cards.NO_LATTICE}" in text
    assert "Phase 1 62.5 %, 1920 pixels" in page(tmp_path, build(pixel_size=None)).text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<circle" not in html


def test_lattices_are_beside_their_patterns(tmp_path):
    image, _ = datasets.two_phase((192, 256), random_state=1)
    s = segment(image, 2, window=40, pixel_size=0.02, units="<nm>")
    found = page(tmp_path, s, pictures=dict.fromkeys(("abundances", "maps"), Picture(b"", 1.0)))
    rings = [(float(a["cx"]), float(a["cy"])) for tag, a in found.tags if tag == "circle"]
    assert rings
    assert sorted(rings) == sorted((-x, -y) for x, y in rings)  # each with its negative
    lattices = [lattice for lattice in s.lattices if lattice is not None]
    places = [(r.kx, r.ky) for lattice in lattices for r in lattice.spacings]
    assert all(np.abs(np.subtract(places, ring)).sum(axis=1).min() < 1e-4 for ring in rings[::2])
    assert all(abs(k) < 0.25 / 0.02 for ring in rings for k in ring)  # within the pattern
    for lattice in lattices:
        assert f"a{uncertain(lattice.a, lattice.a_uncertainty)} <nm>b" in found.text
        assert f"turned{uncertain(lattice.angle, lattice.angle_uncertainty)}°spacings" in found.text
        (spacings,) = re.findall(rf"spacings({lattice.spacings[0].d:.1f}"[:-1] + r".*?) <nm>", found.text)[:1]
        named = [float(d.split("(")[0]) for d in spacings.split(", ")]
        assert len(named) <= cards.NAMED_SPACINGS
        assert (np.abs(np.diff(np.log(sorted(named)))) > 0.015).all()  # no two alike


def test_python_snippet_runs_with_the_same_parameters(tmp_path):
    text = page(tmp_path).text
    call = snippet(text)[len("from stemseg_core import segment\n") :]
    got = {}
    exec(call, {"segment": lambda image, **given: got.update(given), "image": None})
    assert got == PARAMS | {"pixel_size": (0.5, 0.25), "units": "nm"}


def snippet(text):
    """The lines of Python in the text of a page."""
    start = text.index("from stemseg_core import segment\n")
    return text[start : text.index("\n)", start) + 2]


@pytest.mark.parametrize(
    "words",
    [
        ("--phases", "auto"),
        ("--frame", "1", "--mask", "the mask.npy", "--pixel-size", "0.0152587890625nm", "--k-max", "15", "--step", "6"),
        ("--method", "nmf", "--window", "32x40", "--taper", "kaiser,8", "--whiten", "--invalid", "exclude"),
        ("--windows", "24,32,48", "--rotation-invariant", "--regularize", "4", "--seed", "5"),
    ],
)
def test_get_it_again(tmp_path, monkeypatch, words):
    """What the page says, pasted into Python and into a shell, gives the same maps."""
    monkeypatch.chdir(tmp_path)
    image, _ = datasets.two_phase((128, 144), random_state=1)
    write_tiff("my image.tif", np.stack([image[::-1], image]), (0.02, 0.02))
    mask = np.zeros(image.shape, np.uint8)
    mask[:20, -30:] = 1
    np.save("the mask.npy", mask)
    assert cli.main(["segment", "my image.tif", "-o", "first", "--quiet", *words]) == 0
    first = Segmentation.load("first/segmentation.npz")
    found = Page(Path("first/report.html").read_text(encoding="utf-8"))
    text = found.text
    values = {}
    exec(snippet(text), values)
    np.testing.assert_array_equal(values["segmentation"].abundances, first.abundances)
    np.testing.assert_array_equal(values["segmentation"].label_image, first.label_image)
    assert values["segmentation"].pixel_size == first.pixel_size
    shell = re.split(r"\n(?! {4})", text[text.index("stemseg segment ") :])[0]
    assert cli.main([*shlex.split(shell.replace("\\\n", ""))[1:], "--quiet"]) == 0
    again = Segmentation.load("OUT/segmentation.npz")
    np.testing.assert_array_equal(again.abundances, first.abundances)
    assert again.params == first.params
    assert ('asked for as "auto", in a shell --phases auto' in text) == ("auto" in words)
    assert (["n_phases", f"{len(first.fractions)}, found by auto"] in found.rows) == ("auto" in words)


def joined(*arguments, **options):
    """Text of a page without pictures, which take time, with the lines of commands put together, as a shell does."""
    pictures = dict.fromkeys(("abundances", "maps"), Picture(b"", 1.0))
    return page(*arguments, pictures=pictures, **options).text.replace(" \\\n    ", " ")


def test_command_line_is_in_lines_that_a_shell_joins(tmp_path):
    name = "a long name of a file, "
    text = page(tmp_path, source=f"{10 * name}.tif").text
    command = text[text.index("stemseg segment") :].split("\n\n")[0]
    lines = command[: command.index("--seed")].split(" \\\n    ")
    assert len(lines) > 2
    assert all(len(line) < 88 for line in lines if name not in line)
    assert not re.search(r"--(?!whiten)\S+ \\\n", command)  # no line ends between an option and its value
    assert shlex.split(command.replace("\\\n", ""))[:5] == ["stemseg", "segment", f"{10 * name}.tif", "-o", "OUT"]


def test_command_line(tmp_path):
    text = joined(tmp_path, source="my image.dm4")
    expected = (
        "stemseg segment 'my image.dm4' -o OUT --phases 2 --method kmeans --window 64x96 --step 16x24 "
        "--taper kaiser,8.0 --smooth 12.0 --whiten --seed 7"
    )
    assert expected in text
    text = joined(tmp_path, source="a.tif", reading=("--frame", "2", "--mask", "m.npy"))
    assert "stemseg segment a.tif -o OUT --frame 2 --mask m.npy --phases 2" in text
    assert "image = read_image('a.tif', frame=2)" in text
    assert "mask=read_image('m.npy').data != 0," in text
    text = joined(tmp_path, source="a.tif", reading=("--signal", "1", "--frame", "mean"))
    assert "image = read_image('a.tif', signal=1, frame='mean')" in text
    text = joined(tmp_path, build(params=PARAMS | {"method": "KMeans(n_clusters=2)"}))
    assert "The command has no option for method." in text
    assert "method=KMeans(n_clusters=2)," in text
    text = joined(tmp_path, build(params=PARAMS | {"detrend": None}), source="my image.dm4")
    assert "The command has no option for detrend." in text
    assert "stemseg segment" not in text


def test_command_line_of_frequencies_and_maps(tmp_path):
    """The command takes a calibration from the file, in nm, or as an option, and frequencies in 1/nm."""
    params = {"k_max": 0.5, "rotation_invariant": True, "regularize": 8.0, "min_area": 300, "pixel_size": (0.5, 0.25)}
    options = "--rotation-invariant --regularize 8.0 --min-area 300"
    text = joined(tmp_path, build(params=params, units="A"), source="a.tif")
    assert f"--k-max 5 {options} --pixel-size 0.5x0.25A" in text
    text = joined(tmp_path, build(params=params), source="a.tif", reading=("--pixel-size", "0.5x0.25nm"))
    assert f"--pixel-size 0.5x0.25nm --k-max 0.5 {options}\n" in text
    text = joined(tmp_path, build(params={"k_max": 0.4}, pixel_size=None), source="a.tif")
    assert "--k-max 0.4" in text
    text = joined(tmp_path, build(params=params, units="furlong"), source="a.tif")
    assert "The command has no option for k_max" in text
    text = joined(tmp_path, build(params={"k_max": None, "rotation_invariant": False}), source="a.tif")
    assert "-o OUT\n" in text


def test_is_there_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_report(build(), path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.html"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_report(build(), str(tmp_path / "report.html"))
    (tmp_path / "plain").write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("report.html", "plain")]
    assert modes[0] == modes[1]


def test_all_excluded(tmp_path):
    s = build(fractions=np.zeros(2), confidence=np.full((5, 7), np.nan, np.float32))
    s.labels[:] = -1
    s.label_image[:] = -1
    s.residual[:] = np.nan
    assert page(tmp_path, s).rows[1] == ["1", "0.0 %", "0", "-"]
