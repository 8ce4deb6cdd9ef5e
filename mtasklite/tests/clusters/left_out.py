"""Tests of the contract that make no sense on a cluster: how their names begin, and why."""

from __future__ import annotations

_NO_EXITCODE = "an engine does not tell how an actor's process ended"
_NOBODY_KNOWS = "of an actor that died nobody knows what it was at: all that it held may have run"

LEFT_OUT = {
    "test_death_of_a_worker_costs_its_item": _NOBODY_KNOWS,
    "test_death_of_a_worker_is_raised_in_mode_immediate": _NO_EXITCODE,
    "test_retries_try_the_item_of_a_dead_worker_again": _NOBODY_KNOWS,
    "test_death_in_every_constructor_is_worker_init_error": _NO_EXITCODE,
}
"""What is promised instead is tested in this folder."""
