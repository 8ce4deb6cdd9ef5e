"""``from mtasklite.threads import pqdm``: workers in threads."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=True)
pqdm.__module__, pqdm.__qualname__ = __name__, "pqdm"  # so that help and pickle find it where it is imported from
