"""``from mtasklite.ray import pqdm``: workers in the actors of a Ray cluster."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=False, backend="ray")
