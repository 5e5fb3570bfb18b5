"""What show_versions tells."""

import importlib.metadata
import json
import platform

import numpy as np

import stemseg_core
from stemseg_core.system import versions as module
from stemseg_core.system.versions import show_versions, versions


def test_versions():
    found = versions()
    assert json.loads(json.dumps(found)) == found
    assert found["numpy"] == np.__version__
    assert found["stemseg-core"] == stemseg_core.__version__
    assert found["python"] == platform.python_version()
    assert found["simd"] == stemseg_core.SIMD_LEVEL
    assert found["blas"]


def test_show_versions(capsys, monkeypatch):
    monkeypatch.setattr(module, "OPTIONAL", ("matplotlib", "no-such-package"))
    show_versions()
    output = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert lines == versions() | {
        "matplotlib": importlib.metadata.version("matplotlib"),
        "no-such-package": "not installed",
    }
    assert len({line.index(line.split(maxsplit=1)[1], len(line.split()[0])) for line in output.splitlines()}) == 1
