"""What the command prints and writes, reports, and images read from files.

Left out of the sums, since it may differ though nothing changed: versions of the package and of libraries, times and
dates, seconds taken, and the temporary folder. Pictures count by their pixels, files by what is in them.
"""

import json
import re
import subprocess
import sys
import tempfile
from base64 import b64decode
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture

from checksum_cases.common import cases, digest, hole, image
from checksum_cases.images import segmentation
from stemseg_core import io, report


def run(folder, *words):
    """Status and outputs of the command, called as its installed script does."""
    (script,) = entry_points(group="console_scripts", name="stemseg")
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = script.load()([str(word) for word in words])
    return [status, *(stream.getvalue().replace(str(folder), "FOLDER") for stream in (out, err))]


def pixels(png):
    with Picture.open(BytesIO(png)) as picture:
        return np.asarray(picture)


def tiff(path):
    """Pixels, resolution and ImageJ's notes of a file."""
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        scale = [str(tags[name].value) for name in ("XResolution", "YResolution", "ResolutionUnit")]
        return file.asarray(), scale, {key: str(value) for key, value in file.imagej_metadata.items()}


def stored(path):
    """Arrays of a segmentation, and its other attributes but versions."""
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    return found | {"json": without(json.loads(str(found["json"])), "versions")}


def without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


def summary(text):
    return without(json.loads(text), "stemseg_core", "created", "versions", "seconds", "output")


def page(path):
    """A report without its date and its table of versions, pictures as sums of their pixels."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", text)
    text, n_tables = re.subn(r"<h2>Versions</h2>.*?</table>", "VERSIONS", text, flags=re.DOTALL)
    text, n_pictures = re.subn(
        r"data:image/png;base64,([\w+/=]+)", lambda match: digest(pixels(b64decode(match[1]))), text
    )
    assert (n_tables, text.count("DATE")) == (1, 1), "a report was not taken apart as it is written now"
    assert n_pictures > 1, "a report without pictures"
    return text


READERS = {".tif": tiff, ".npz": stored, ".html": page, ".json": lambda path: summary(path.read_text("utf-8"))}
READERS[".png"] = lambda path: pixels(path.read_bytes())
READERS[".csv"] = lambda path: path.read_text("utf-8")


def written(folder):
    """Everything in a folder of results."""
    return {path.name: READERS[path.suffix](path) for path in folder.iterdir()}


#: Options of the command by the name of the result.
COMMANDS = {
    "segment": "--phases 3 --step 6",
    "segment, nmf": "--phases auto --method nmf --window 0.64nm --step 0.18nm --mask mask.png --seed 4 --jobs 2",
    "segment, options": "--windows 24,32x40,64 --step 8 --pixel-size 0.2x0.3A --whiten --regularize 3 --k-max 9",
    "segment, rotation invariant": "--rotation-invariant --window 40 --step 8 --frame mean --min-area 200 --json",
}


def write_files(folder):
    """Images and a mask; the third is a stack."""
    io.write_tiff(folder / "image.tif", image(), (0.02, 0.02))
    io.write_tiff(folder / "stack.tif", np.stack([image(), image() + 1]), (0.2, 0.2), "A")
    Picture.fromarray(hole()).save(folder / "mask.png")


@cases("command/{}", COMMANDS)
def command(name):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder)
        words = [folder / word if word == "mask.png" else word for word in COMMANDS[name].split()]
        source = folder / ("stack.tif" if "--frame" in words else "image.tif")
        status, out, err = run(folder, "segment", source, "-o", folder / "out", *words)
        return status, summary(out) if "--json" in words else out, err, written(folder / "out")


@cases("command/demo")
def demo():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return run(folder, "demo", "-o", folder / "demo"), written(folder / "demo")


@cases("command/info")
def info():
    """By the installed script, in a process of its own; and what is refused."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder)
        script = Path(sys.executable).with_name("stemseg")
        done = subprocess.run([script, "info", "image.tif"], cwd=folder, capture_output=True, text=True, check=True)
        files = ("stack.tif", "mask.png", "missing.tif")
        found = [run(folder, "info", folder / name, "--json") for name in files]
        bad = ("--phases", "none"), ("--window", "500"), ("--k-min", "-1"), ("--frame", "9"), ("--taper", "x")
        refused = [run(folder, "segment", folder / "image.tif", "-o", folder / "out", *words) for words in bad]
        return done.stdout, found, refused


@cases("report/{}", (2, 3))
def reports(k):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        if k == 2:
            segmentation(k).report(path)
        else:
            reading = ("--frame", "2", "--pixel-size", "0.02nm", "--mask", "mask.png")
            report.write_report(segmentation(k), path, title="A < B", source="a b.dm4", reading=reading)
        return page(path)


@cases("io/images")
def images():
    """Images as they are read from files of several formats."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder)
        np.save(folder / "x.npy", image().astype(">u2"))
        np.savez(folder / "x.npz", a=image()[:50], b=image())
        Picture.fromarray(np.stack([image(), 2 * image(), image()[::-1]], -1).astype(np.uint8)).save(folder / "x.png")
        for name in ("image.tif", "stack.tif", "mask.png", "x.npy", "x.npz", "x.png"):
            for frame in (None, "mean", 1) if name == "stack.tif" else (None,):
                read = vars(io.read_image(folder / name, frame=frame))
                found.append(without(read, "signals"))
                found.append([(signal.title, list(signal.shape), signal.dtype) for signal in read["signals"]])
    return found
