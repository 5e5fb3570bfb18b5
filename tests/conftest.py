"""Fixtures of all tests."""

import importlib.util
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time: a test that fails, fails for everyone. Half as many as usual, for all tests to take less
# than five minutes.
settings.register_profile("repeatable", max_examples=50, derandomize=True, deadline=None, database=None)
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
