"""The package as a whole: kernels of every level, an un-built tree, lists of files, imports that point one way."""

import ast
import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stemseg_core
from stemseg_core import _kernels

PACKAGE = Path(__file__).parents[1] / "stemseg_core"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))
#: The rooms along the way of the data. A module imports its own room and those further left; rooms on one line do not
#: know each other.
ORDER = (
    ("_kernels",),
    ("system",),
    ("calibration",),
    ("rows",),
    ("windows", "stages"),
    ("phases", "lattices", "cubes"),
    ("datasets", "io"),
    ("plot",),
    ("command",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
#: What the package's own face and the module that keeps an old path import is the public API, of all rooms.
FACES = ("__init__.py", "report.py")
EXTRAS = {"matplotlib", "rsciio", "tifffile", "PIL", "tqdm", "h5py", "dask", "zarr", "pandas"}


def python(code, **options):
    return subprocess.run(
        [sys.executable, *options.pop("flags", ["-P"]), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


# Kernels.


def test_levels():
    levels = _kernels.available_levels()
    assert levels[0] == "baseline"
    assert levels == [level for level in ("baseline", "v3", "v4") if level in levels]
    assert stemseg_core.SIMD_LEVEL in levels


@pytest.mark.parametrize("level", _kernels.available_levels())
def test_every_level_can_be_chosen(level):
    code = "import stemseg_core as s; from stemseg_core._kernels import nmf; print(s.SIMD_LEVEL, nmf.__name__)"
    done = python(code, env=os.environ | {"STEMSEG_SIMD": level})
    assert done.stdout.split() == [level, f"stemseg_core._kernels.nmf_{level}"], done.stderr


def test_the_best_level_is_chosen_by_default():
    environment = {name: value for name, value in os.environ.items() if name != "STEMSEG_SIMD"}
    for more in ({}, {"STEMSEG_SIMD": ""}):
        done = python("import stemseg_core as s; print(s.SIMD_LEVEL)", env=environment | more)
        assert done.stdout.strip() == _kernels.available_levels()[-1], done.stderr


def test_a_level_that_is_not_there():
    done = python("import stemseg_core", env=os.environ | {"STEMSEG_SIMD": "v9"})
    assert done.returncode == 1
    assert "ImportError: STEMSEG_SIMD='v9': expected one of baseline" in done.stderr
    assert "source tree" not in done.stderr


def kernels():
    for stage in _kernels.STAGES:
        for level in _kernels.available_levels():
            module = importlib.import_module(f"stemseg_core._kernels.{stage}_{level}")
            for function in vars(module).values():
                if callable(function) and getattr(function, "__name__", "").endswith("_block"):
                    yield pytest.param(function, id=f"{stage}_{level}.{function.__name__}")


@pytest.mark.parametrize("kernel", list(kernels()))
def test_kernels_pickle(kernel):
    assert getattr(importlib.import_module(kernel.__module__), kernel.__name__).__name__ == kernel.__name__
    again = pickle.loads(pickle.dumps(kernel))
    assert again.__name__ == kernel.__name__
    assert again.__module__ == kernel.__module__


def test_every_stage_has_kernels():
    assert len(list(kernels())) > len(_kernels.STAGES) * len(_kernels.available_levels())
    assert {path.stem for path in (PACKAGE.parent / "src").glob("*.pyx")} == {*_kernels.STAGES, "cpu"}


def test_every_kernel_has_a_stub():
    for stage in _kernels.STAGES:
        stub = ast.parse((PACKAGE / "_kernels" / f"{stage}.pyi").read_text())
        stubs = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
        module = getattr(_kernels, stage)
        assert module.__name__ == f"stemseg_core._kernels.{stage}_{_kernels.SIMD_LEVEL}"
        assert stubs == {name for name in vars(module) if name.endswith(("_block", "_scratch"))}


# A tree that is not built.


@pytest.fixture
def source_tree(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "stemseg_core", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return tmp_path


def in_tree(tree):
    """Import from that tree, an editable build of this checkout out of the way."""
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__module__.lower()"
        " and 'meson' not in type(f).__name__.lower()]; import stemseg_core"
    )
    return python(code, flags=[], cwd=tree)


def test_unbuilt_tree_says_what_to_do(source_tree):
    done = in_tree(source_tree)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: stemseg_core is imported from its source tree")
    assert "pip install --no-build-isolation -e" in message


def test_other_missing_modules_are_not_hidden(source_tree):
    (source_tree / "stemseg_core" / "_kernels" / "__init__.py").write_text("import no_such_module\n")
    done = in_tree(source_tree)
    assert done.stderr.strip().splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert "source tree" not in done.stderr


def test_broken_kernels_are_not_hidden(source_tree):
    (source_tree / "stemseg_core" / "_kernels" / "__init__.py").write_text("raise ImportError('undefined symbol')\n")
    assert in_tree(source_tree).stderr.strip().splitlines()[-1] == "ImportError: undefined symbol"


# Files and imports.


def test_every_module_is_installed():
    for folder in [PACKAGE, *(PACKAGE / room for room in FLOOR)]:
        listed = re.findall(r"'([\w/]+\.(?:py|pyi|css|js)|py\.typed)'", (folder / "meson.build").read_text())
        assert len(listed) == len(set(listed))
        kinds = (".py", ".pyi", ".css", ".js")
        assert set(listed) == {p.name for p in folder.iterdir() if p.suffix in kinds or p.name == "py.typed"}


def test_every_folder_is_a_room():
    found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(FLOOR)
    assert set(re.findall(r"subdir\('(\w+)'\)", (PACKAGE / "meson.build").read_text())) == found
    assert len(MODULES) > 60


def imports_at_import(path):
    """Names of modules that are imported when the module is, not inside of functions or for type checkers only."""
    pending = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                pending += node.orelse
            else:
                pending += ast.iter_child_nodes(node)


def room(module):
    """The room of a module of ours, by its dotted name; None of the face, or of somebody else's."""
    names = module.split(".")
    return names[1] if names[0] == "stemseg_core" and len(names) > 1 and names[1] in FLOOR else None


def as_path(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", [path for path in MODULES if as_path(path) not in FACES], ids=as_path)
def test_rooms_import_those_to_their_left(path):
    own = path.relative_to(PACKAGE).parts[0]
    for module in imports_at_import(path):
        other = room(module)
        assert module.split(".")[0] not in EXTRAS, f"{module} is an extra: import it where it is used"
        if module.split(".")[0] == "stemseg_core" and other is None:
            assert module == "stemseg_core", f"{module} is of the package's face"
        assert other in (None, own) or FLOOR[other] < FLOOR[own], f"{module} is to the right of {own}"


def test_no_circle():
    """Modules can be put in an order in which each imports only earlier ones."""
    names = {
        path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
    }
    known = set(names.values())
    left = {name: set(imports_at_import(path)) & known - {name, "stemseg_core"} for path, name in names.items()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


def test_every_module_has_its_test():
    """In the file of its name, or in one whose first line names it."""
    files = {path.stem: path.read_text(encoding="utf-8").lstrip("'\"").splitlines()[0] for path in TESTS}
    named = {word for line in files.values() for word in re.findall(r"\w+", line)}
    modules = {path.stem if path.stem != "__init__" else path.parent.name for path in MODULES} - {
        *FLOOR,
        "stemseg_core",
    }
    assert not sorted(name for name in modules if f"test_{name}" not in files and name not in named)


def test_import_brings_in_no_extra():
    code = "import sys; before = set(sys.modules); import {}; print(*sys.modules.keys() - before)"
    theirs = python(code.format("sklearn.mixture, sklearn.decomposition, scipy.ndimage, joblib")).stdout.split()
    ours = set(python(code.format("stemseg_core")).stdout.split())
    assert "stemseg_core.phases.segment" in ours
    # scikit-learn itself imports pandas where there is one
    assert not (ours - set(theirs)) & (EXTRAS | {"hyperspy", "torch"})
    assert not {room(name) for name in ours} & {"io", "plot", "command"}


def test_public_names():
    assert sorted(stemseg_core.__all__, key=str) == sorted(set(stemseg_core.__all__))
    for name in stemseg_core.__all__:
        assert getattr(stemseg_core, name) is not None
    assert re.match(r"\d+\.\d+", stemseg_core.__version__)
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", [n for n in stemseg_core.__all__ if callable(getattr(stemseg_core, n))])
def test_public_things_are_documented(name):
    assert len(getattr(stemseg_core, name).__doc__ or "") > 20


#: Longest function, its docstring not counted, and longest file, in lines.
FUNCTION, FILE = 100, 400


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), *TESTS], ids=str)
def test_nothing_is_long(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            has_docs = ast.get_docstring(node) is not None
            docs = node.body[0].end_lineno - node.body[0].lineno + 1 if has_docs else 0
            assert node.end_lineno - node.lineno + 1 - docs <= FUNCTION, node.name
