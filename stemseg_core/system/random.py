"""From `random_state` to streams of random numbers: an int, a `RandomState`, a `Generator` or None, in every estimator.

An int gives the same numbers every time, None others every time; a generator that is given moves on.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from stemseg_core.system.errors import ParameterError, ParameterTypeError

#: Largest seed of a `RandomState`, which is of 32 bits.
LARGEST_SEED = 2**32 - 1
#: What `random_state` may be.
RandomState = int | np.random.RandomState | np.random.Generator | None


def streams(random_state: Any, n: int) -> list[np.random.SeedSequence]:
    """Seeds of independent streams, n of them: one for each of n tasks, which may run in any order."""
    return np.random.SeedSequence(_entropy(random_state)).spawn(n)


def stream(random_state: Any) -> np.random.RandomState:
    """One stream, for an algorithm that draws one number after the other.

    A `RandomState`, whose numbers NumPy keeps the same in all its versions; those of a `Generator` may change.
    """
    if isinstance(random_state, np.random.RandomState):
        return random_state
    entropy = _entropy(random_state)
    if isinstance(entropy, Integral) and int(entropy) > LARGEST_SEED:
        raise ParameterError(
            f"`random_state` must be a whole number below 2**32; got {random_state!r}", random_state=random_state
        )
    return np.random.RandomState(entropy if entropy is None or np.ndim(entropy) else int(entropy))


def as_seed(random_state: Any) -> int:
    """One whole number that stands for it, where several steps start from the same seed; an int stands for itself."""
    if isinstance(random_state, np.random.RandomState | np.random.Generator) or random_state is None:
        return int(np.random.SeedSequence(_entropy(random_state)).generate_state(1)[0])
    check_random_state(random_state, types=(np.random.RandomState, np.random.Generator))
    return int(random_state)


def check_random_state(random_state: Any, *, types: tuple[type, ...] = (), or_none: bool = True) -> None:
    """Raise `ParameterError` unless `random_state` is a whole number from 0 on, None if allowed, or one of `types`."""
    if (or_none and random_state is None) or (types and isinstance(random_state, types)):
        return
    is_whole = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    if not is_whole or int(random_state) < 0:
        kinds = ["a whole number, at least 0", *(f"a {kind.__name__}" for kind in types), *["None"] * or_none]
        expected = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])}, or {kinds[-1]}"
        error = ParameterError if is_whole else ParameterTypeError
        raise error(f"`random_state` must be {expected}; got {random_state!r}", random_state=random_state)


def _entropy(random_state: Any) -> Any:
    """What a seed sequence starts from; a generator gives 128 of its bits."""
    if isinstance(random_state, np.random.RandomState):
        return random_state.randint(2**32, size=4, dtype=np.uint32)
    if isinstance(random_state, np.random.Generator):
        return random_state.integers(2**32, size=4, dtype=np.uint32)
    check_random_state(random_state, types=(np.random.RandomState, np.random.Generator))
    return random_state
