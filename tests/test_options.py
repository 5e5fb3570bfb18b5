"""Messages in the words of the command: parameters as options."""

import pytest

from stemseg_core import KMeans
from stemseg_core.command.options import SEGMENT
from stemseg_core.system.errors import OutOfMemoryError, ParameterError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            ParameterError("`k_min=` with `k_max=0.5` leaves none", k_min=3, k_max=0.5),
            "--k-min 3 with --k-max 0.5 leaves none",
        ),
        (
            ParameterError("`image` has NaN; pass `invalid=`", image=3, invalid="exclude"),
            "image has NaN; pass --invalid exclude",
        ),
        (ParameterError("`n_jobs` must be a whole number", n_jobs=0.5), "--jobs must be a whole number"),
        (
            OutOfMemoryError("`max_memory` is 1 kB; take a larger step", max_memory=1000),
            "--max-memory is 1 kB; take a larger step",
        ),
        (
            ParameterError("`window=` is not of `windows=`", window=(8, 9), windows=[8, (9, 9)]),
            "--window 8x9 is not of --windows 8,9x9",
        ),
        (
            ParameterError("`rotation_invariant=`; `n_phases=`", rotation_invariant=True, n_phases="auto"),
            "--rotation-invariant; --phases auto",
        ),
        (ParameterError("`method=`", method=KMeans(3)), "--method KMeans(n_clusters=3)"),
        (ParameterError("`detrend=`; my_k_max and zoom=2", detrend=3), "detrend=3; my_k_max and zoom=2"),
        (ValueError("window=3 is `k_min`"), "window=3 is `k_min`"),
    ],
)
def test_errors_in_options(message, expected):
    assert SEGMENT.spelled(message) == expected


def test_texts_in_options():
    assert (
        SEGMENT.in_text("at most `k_max`, or `n_jobs` of it; not `nothing`")
        == "at most --k-max, or --jobs of it; not nothing"
    )
