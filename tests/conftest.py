"""Fixtures of all tests."""

import importlib.util
from pathlib import Path

import pytest

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
