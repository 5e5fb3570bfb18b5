import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import stemseg_core

README = Path(__file__).parents[1] / "README.md"
PACKAGE = README.parent / "stemseg_core"


def modules():
    """Names of all modules but the kernels: this processor may not have the instructions that they are made of."""
    found = pkgutil.walk_packages(stemseg_core.__path__, "stemseg_core.", onerror=import_module)  # raises again
    return ["stemseg_core", *(m.name for m in found if not m.name.startswith("stemseg_core._kernels."))]


MODULES = modules()


def test_every_module_is_found():
    sources = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    assert sorted(MODULES) == sorted(".".join(parts).removesuffix(".__init__") for parts in sources)
    assert len(MODULES) >= 60


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(name)).failed == 0


def test_whatever_is_public_has_an_example():
    without = {
        "PhaseWarning",
        "SIMD_LEVEL",
        "Stopped",
        "datasets",
        "Segmentation",
        "WindowMatrix",
    }
    for name in set(stemseg_core.__all__) - without:
        assert ">>>" in getattr(stemseg_core, name).__doc__, name


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_examples_of_the_readme(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_versions_agree():
    changelog = (README.parent / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] in stemseg_core.__version__
