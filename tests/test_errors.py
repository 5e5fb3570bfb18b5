"""Errors that know their parameter: its name, its value, and the message in other spellings."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from stemseg_core import ATGP, NMF
from stemseg_core.stages import endmembers
from stemseg_core.system.errors import NonFiniteError, OutOfMemoryError, ParameterError, ParameterTypeError


def option(name):
    return "--" + name.replace("_", "-")


def option_with_value(name, value):
    return f"{option(name)} {value}"


def test_a_parameter_is_spelled_in_python_and_as_an_option():
    values = {"k_min": 3.5, "zoom": 2, "scale": "abs"}
    error = ParameterError("`k_min=` with `zoom` leaves none, nor `scale=`: see `segment`", **values)
    assert str(error) == "k_min=3.5 with zoom leaves none, nor scale='abs': see `segment`"
    expected = "--k-min 3.5 with --zoom leaves none, nor --scale abs: see `segment`"
    assert error.spelled(option, option_with_value) == expected
    assert (error.name, error.value) == ("k_min", 3.5)
    assert isinstance(error, ValueError)


def test_a_text_in_place_of_the_value():
    error = ParameterError("`zoom=` is too much; take `zoom=1` or `k_min=2e+03`", zoom=2, k_min=9)
    assert str(error) == "zoom=2 is too much; take zoom=1 or k_min=2e+03"
    assert error.spelled(option, option_with_value) == "--zoom 2 is too much; take --zoom 1 or --k-min 2e+03"


def test_values_that_look_like_parameters_are_left_alone():
    error = ParameterError(f"`units` must be a name, got {'{zoom} %s'!r}", units="{zoom} %s")
    assert str(error) == "units must be a name, got '{zoom} %s'"


@pytest.mark.parametrize("kind", [ParameterError, ParameterTypeError, OutOfMemoryError])
def test_they_pickle(kind):
    error = pickle.loads(pickle.dumps(kind("`a=` and `b`", a=1, b=[2])))
    assert type(error) is kind
    assert (str(error), error.values) == ("a=1 and b", {"a": 1, "b": [2]})


def test_they_pickle_whatever_the_value():
    error = ParameterError("`a=` is wrong", a=pickle)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.name == "a"
    found = pickle.loads(pickle.dumps(NonFiniteError(2, 5, 1, 0)))
    assert (found.row, found.feature, str(found)) == (2, 5, str(NonFiniteError(2, 5, 1, 0)))


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match=r"^whiten must be True or False"):
        raise ParameterTypeError("`whiten` must be True or False", whiten=3)


@pytest.mark.parametrize("index", [slice(10, 20), np.array([3, 8, 15])])
def test_rows_of_a_block_become_rows_of_x(index):
    error = NonFiniteError(2, 5, 1, 0).in_rows(index)
    assert error.row == {slice: 12, np.ndarray: 15}[type(index)]
    assert f"row {error.row}, feature 5" in str(error)


@pytest.mark.parametrize("call", ["fit", "fit_transform"])
def test_warnings_are_of_the_line_that_led_to_them(call):
    """However deep in the package, and through the wrappers of scikit-learn."""
    X = np.random.default_rng(0).random((50, 8))
    with pytest.warns(ConvergenceWarning) as caught:
        getattr(NMF(3, max_iter=1, tol=0), call)(X)
    assert [Path(warning.filename).name for warning in caught] == ["test_errors.py"]


def test_a_warning_of_atgp_is_of_the_line_of_the_fit(monkeypatch):
    axes = endmembers.principal_axes

    def not_converged(*given, **options):
        return replace(axes(*given, **options), converged=False)

    monkeypatch.setattr(endmembers, "principal_axes", not_converged)
    with pytest.warns(ConvergenceWarning, match="ATGP did not converge") as caught:
        ATGP(3).fit(np.random.default_rng(0).random((50, 8)))
    assert {Path(warning.filename).name for warning in caught} == {"test_errors.py"}
