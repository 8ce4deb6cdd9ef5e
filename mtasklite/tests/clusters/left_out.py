"""Tests of the contract that make no sense on a cluster: how their names begin, and why."""

from __future__ import annotations

LEFT_OUT: dict[str, str] = {}
