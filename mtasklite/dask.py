"""``from mtasklite.dask import pqdm``: workers in the actors of a Dask cluster."""

from mtasklite.pqdm import make_pqdm

pqdm = make_pqdm(use_threads=False, backend="dask")
