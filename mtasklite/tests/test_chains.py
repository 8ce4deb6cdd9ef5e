"""Pools in a chain: the results of one are the input of the next."""

from __future__ import annotations

import gc
import itertools

import pytest

from mtasklite import Pool
from mtasklite.tests import workers
from mtasklite.tests.programs import by_speed
from mtasklite.tests.workers import everyone


@pytest.fixture(params=by_speed(workers.ALL))
def pool_kwargs(request):
    """Arguments that choose where a pool works."""
    return dict(workers.ALL[request.param])


@pytest.mark.parametrize("length", [2, 3])
def test_chain_of_pools_gives_what_a_chain_of_functions_gives(pool_kwargs, length):
    """Pools in a row give what functions in a row give."""
    before = everyone()
    results = range(30)
    for _ in range(length):
        results = Pool(workers.Multiplier(3), **pool_kwargs)(results)
    assert len(results) == 30
    assert list(results) == [3**length * item for item in range(30)]
    assert everyone() == before


def test_chain_of_pools_that_is_broken_off_leaves_nothing(pool_kwargs):
    """The end of the last pool is the end of all."""
    before = everyone()
    results = itertools.count()
    for _ in range(3):
        results = Pool(workers.square, **pool_kwargs)(results)
    assert [next(results) for _ in range(3)] == [0, 1, 256]
    del results
    gc.collect()
    assert everyone() == before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_chain_of_pools_in_which_one_fails_hands_out_what_came_before(pool_kwargs, place):
    """An exception in any of the pools is raised at the end of the chain, and ends all of them."""
    before = everyone()
    chain = [workers.square] * 3
    chain[place] = workers.divide_by
    results = [1, 1, 1, 0, 1]
    for worker in chain:
        results = Pool(worker, chunk_size=1, **pool_kwargs)(results)
    taken = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for result in results:
            taken.append(result)
    assert taken == [1, 1, 1][: len(taken)]
    del results
    gc.collect()
    assert everyone() == before
