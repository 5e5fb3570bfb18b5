"""Shared texts of parameters: filled in where a docstring asks for them, and nowhere else."""

import inspect
from importlib import import_module
from pkgutil import walk_packages

import pytest

import stemseg_core
from stemseg_core.system.docs import SHARED, shared_docs


def test_a_line_becomes_its_text():
    @shared_docs
    def f():
        """Do it.

        Parameters
        ----------
        init : {"a", "b"}
        {n_jobs}
        tol : float

            {not a name}
        """

    text = inspect.getdoc(f)
    assert 'init : {"a", "b"}\nn_jobs : int, optional\n    Threads, as in joblib' in text
    assert "for any number.\ntol : float" in text
    assert "{not a name}" in text


def test_without_docstrings():
    def f():
        pass

    assert shared_docs(f) is f


def test_a_name_without_a_text_is_an_error():
    def f():
        """
        {nothing}
        """

    with pytest.raises(KeyError, match="nothing"):
        shared_docs(f)


def test_execution_is_all_three():
    assert [line for line in SHARED["execution"].splitlines() if line and line[0] != " "] == [
        "n_jobs : int, optional",
        "max_memory : int, float or str, optional",
        "progress : callable, optional",
    ]


def documented():
    found = walk_packages(stemseg_core.__path__, "stemseg_core.")
    names = [
        module.name for module in found if "._kernels." not in module.name
    ]  # of which this processor may lack some
    for module in map(import_module, ["stemseg_core", *names]):
        for value in vars(module).values():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("stemseg_core"):
                yield value
                if inspect.isclass(value):
                    yield from filter(inspect.isfunction, vars(value).values())


def test_no_text_is_left_out():
    left = {f"{{{name}}}" for name in SHARED}
    texts = [value.__doc__ for value in documented() if value.__doc__]
    assert len(texts) > 300
    assert not [text for text in texts for line in text.splitlines() if line.strip() in left]
