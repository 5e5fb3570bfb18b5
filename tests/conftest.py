"""Fixtures of several test files."""

import importlib.util
import signal
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import settings

from stemseg_core import datasets
from stemseg_core.io import write_tiff

# The same examples every time: a test that fails, fails for everyone. Half as many as usual, for all tests to take less
# than five minutes.
settings.register_profile("repeatable", max_examples=50, derandomize=True, deadline=None, database=None)
# Of what all examples were tried on, and other libraries or kernels are: --hypothesis-profile few
settings.register_profile("few", settings.get_profile("repeatable"), max_examples=10)
settings.load_profile("repeatable")

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def reference():
    """``reference("nmf")`` is the module of pure-NumPy twins tests/reference/nmf.py."""

    def load(stage):
        spec = importlib.util.spec_from_file_location(f"reference_{stage}", REFERENCE / f"{stage}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def peak_bytes():
    """``peak_bytes(function, ...)`` is the largest memory of arrays that are alive at once during the call."""

    def measure(function, *arguments):
        tracemalloc.start()
        try:
            function(*arguments)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


#: nm, of the image that the command is tried on.
PIXEL = 0.02


@pytest.fixture(scope="module")
def simulated():
    return datasets.two_phase((192, 256), angle=30, pixel_size=PIXEL, random_state=1)


@pytest.fixture
def path(tmp_path, simulated):
    """A calibrated image in a folder of its own."""
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "image.tif", simulated[0], (PIXEL, PIXEL))
    return tmp_path / "in" / "image.tif"


@pytest.fixture
def stub(monkeypatch):
    """Puts a function in the place of `segment`; returns the calls made of it."""

    def put(action):
        calls = []

        def segment(image, n_phases, **options):
            calls.append(options | {"n_phases": n_phases})
            return action()

        monkeypatch.setattr("stemseg_core.command.segment_job.segment", segment)
        return calls

    return put
