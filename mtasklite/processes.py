"""``from mtasklite.processes import pqdm``: workers in processes."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=False)
pqdm.__module__, pqdm.__qualname__ = __name__, "pqdm"  # so that help and pickle find it where it is imported from
