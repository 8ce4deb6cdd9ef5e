"""``from mtasklite.processes import pqdm``: workers in processes."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=False)
