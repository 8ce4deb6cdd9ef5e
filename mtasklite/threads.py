"""``from mtasklite.threads import pqdm``: workers in threads."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=True)
