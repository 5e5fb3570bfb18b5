"""Streams of random numbers from whatever `random_state` is."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import check_random_state as check_as_scikit_learn

from stemseg_core import ICA, NFINDR, NMF, VCA, KMeans
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.random import as_seed, check_random_state, stream, streams


def numbers(seeds):
    return [np.random.default_rng(seed).random(3).tolist() for seed in seeds]


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), 2**32 - 1])
def test_an_int_gives_the_same_numbers_every_time(seed):
    assert numbers(streams(seed, 3)) == numbers(streams(seed, 3))
    assert stream(seed).random_sample() == stream(seed).random_sample() == check_as_scikit_learn(seed).random_sample()


def test_streams_are_independent_and_do_not_depend_on_how_many_there_are():
    three, five = numbers(streams(0, 3)), numbers(streams(0, 5))
    assert five[:3] == three
    assert len({tuple(found) for found in five}) == 5


def test_none_gives_other_numbers_every_time():
    assert numbers(streams(None, 1)) != numbers(streams(None, 1))
    assert stream(None).random_sample() != stream(None).random_sample()


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_a_generator_moves_on(kind):
    generator = kind(5)
    first, second = numbers(streams(generator, 1)), numbers(streams(generator, 1))
    assert first != second
    assert first == numbers(streams(kind(5), 1))
    one, other = kind(5), kind(5)
    assert stream(one).random_sample(3).tolist() == stream(other).random_sample(3).tolist()
    assert stream(one).random_sample(3).tolist() == stream(other).random_sample(3).tolist()


def test_one_seed_for_several_steps():
    assert as_seed(np.int64(7)) == 7
    assert as_seed(None) != as_seed(None)
    for kind in (np.random.RandomState, np.random.default_rng):
        generator = kind(5)
        assert as_seed(generator) == as_seed(kind(5)) != as_seed(generator)


@pytest.mark.parametrize("value", [-1, 1.5, "0", True, [1], np.random.SeedSequence(1)])
def test_what_is_refused(value):
    expected = "random_state must be a whole number, at least 0, a RandomState, a Generator, or None; got "
    for function in (lambda: streams(value, 1), lambda: stream(value), lambda: as_seed(value)):
        with pytest.raises(ParameterError, match=expected):
            function()
    with pytest.raises(ParameterError, match="random_state must be a whole number, at least 0, or None; got"):
        check_random_state(value)
    with pytest.raises(ParameterError, match="random_state must be a whole number, at least 0; got"):
        check_random_state(value, or_none=False)


@pytest.mark.parametrize(
    "estimator",
    [KMeans(4, n_init=2), KMeans(4, init="random"), NFINDR(4), VCA(4), NMF(3), NMF(3, init="random"), ICA(3)],
    ids=str,
)
def test_every_estimator_takes_any_kind(estimator):
    X = np.random.default_rng(0).random((300, 8)) ** 3

    def found(random_state):
        model = clone(estimator).set_params(random_state=random_state).fit(X)
        return getattr(model, "cluster_centers_" if isinstance(model, KMeans) else "components_").tobytes()

    assert found(3) == found(np.int64(3))
    for kind in (np.random.RandomState, np.random.default_rng):
        generator = kind(3)
        assert found(generator) == found(kind(3))
        assert generator.standard_normal() != kind(3).standard_normal()  # it moved on
    found(None)
    with pytest.raises(ParameterError, match="random_state must be a whole number"):
        found("a seed")


@pytest.mark.parametrize("wrong", ["a", 1.5, [1, 2], True])
def test_a_random_state_of_a_wrong_type_is_a_type_error_too(wrong):
    with pytest.raises(TypeError, match="random_state must be a whole number"):
        check_random_state(wrong)


@pytest.mark.parametrize("seed", [2**32, 2**70])
def test_a_seed_of_more_than_32_bits(seed):
    assert numbers(streams(seed, 1)) == numbers(streams(seed, 1))
    with pytest.raises(ParameterError, match=r"^random_state must be a whole number below 2\*\*32; got"):
        stream(seed)
