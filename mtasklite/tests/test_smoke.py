"""The thinnest whole path, once for each backend."""

from __future__ import annotations

import pytest

from mtasklite import Pool


@pytest.mark.parametrize("backend", ["processes", "threads"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_pool_maps_in_order(backend, n_jobs, n_elem):
    """A pool's results are those of `map`."""
    assert list(Pool(abs, n_jobs, backend=backend)(range(-n_elem, 0))) == list(range(n_elem, 0, -1))
