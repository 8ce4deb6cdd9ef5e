"""Imports the backend that was asked for, and no other, and makes it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from mtasklite._arguments import Settings
from mtasklite._backends._adapter import Adapter, Resources
from mtasklite._backends.base import Backend


def make_backend(settings: Settings) -> Backend:
    """Return the backend for a pool, which starts no worker yet."""
    if settings.backend == "inline":
        from mtasklite._backends.inline import InlineBackend

        return InlineBackend(settings.workers, settings.argument_type, settings.output)
    if settings.backend == "threads":
        from mtasklite._backends.threads import ThreadBackend

        return ThreadBackend(settings.workers, settings.argument_type, settings.task_timeout, settings.output)
    if settings.adapter is not None:
        from mtasklite._backends._cluster import ClusterBackend

        return ClusterBackend(
            settings.adapter, settings.workers, settings.argument_type, settings.task_timeout, settings.output
        )
    from mtasklite._backends.processes import ProcessBackend

    return ProcessBackend(
        settings.workers, settings.argument_type, settings.task_timeout, settings.start_method, settings.output
    )


def make_adapter(engine: str, needs: Sequence[Resources]) -> Adapter:
    """Import what a cluster's engine is spoken to with, and make it.

    Raises:
        ImportError: The engine is not installed.
    """
    try:
        module = importlib.import_module(f"mtasklite._backends.{engine}")
    except ImportError as error:
        text = f'`backend={engine!r}` needs what is not installed: pip install "mtasklite[{engine}]"'
        raise ImportError(text) from (None if error.name in ("ray", "dask", "distributed") else error)
    adapter: Adapter = module.make_adapter(needs)
    return adapter
