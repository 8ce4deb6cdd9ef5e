"""Joins the Ray that the environment names or that runs on this machine; else starts one, without a word."""

from __future__ import annotations

import logging
import os
import socket
from typing import Optional

import ray

ADDRESS_VARIABLE = "RAY_ADDRESS"

ANSWER_SECONDS = 5.0
"""What takes no connection within this is no cluster; Ray itself would try for more than a minute."""

JOIN_HINT = "`ray.init(address)` before the pool chooses a cluster, `ray.init('local')` starts one of your own"


def init() -> None:
    """Do what ``ray.init()`` does, but start no dashboard, and wait for no cluster that has ended.

    Raises:
        ConnectionError: No cluster could be joined or started.
    """
    found = _found_address()
    is_stale = found is not None and not _answers(found)
    if is_stale:
        if os.environ.get(ADDRESS_VARIABLE):
            remedy = f"start it, or unset `{ADDRESS_VARIABLE}`; {JOIN_HINT}"
            raise ConnectionError(f"`{ADDRESS_VARIABLE}` names a Ray cluster that does not answer, {found}: {remedy}")
        found = None  # it ran on this machine once, and was not stopped in good order
    try:
        if found is not None:
            ray.init()
        else:
            address = "local" if is_stale else None
            ray.init(address, include_dashboard=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError) as error:
        what = "started" if found is None else f"joined at {found}"
        raise ConnectionError(f"no Ray cluster could be {what}: {error}; {JOIN_HINT}") from error


def _found_address() -> Optional[str]:
    """Return the address of the cluster that ``ray.init()`` would join; ``None``: it would start one, or who knows."""
    named = os.environ.get(ADDRESS_VARIABLE, "")
    if named not in ("", "auto"):
        return None if named == "local" else named
    try:
        from ray._private.services import canonicalize_bootstrap_address as find
    except ImportError:
        return None
    address: Optional[str] = find(None)
    return address


def _answers(address: str) -> bool:
    """Whether something at this address takes connections."""
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
