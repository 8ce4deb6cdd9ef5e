"""Which Ray a pool joins or starts where the program has joined none, and what it says if that fails."""

from __future__ import annotations

import logging
import socket

import pytest

ray = pytest.importorskip("ray")

from mtasklite._backends import _ray_start  # noqa: E402
from mtasklite._backends.ray import make_adapter  # noqa: E402

NOBODY = "127.0.0.1:1"


@pytest.fixture
def asked(monkeypatch):
    """What `ray.init` was called with, instead of doing anything."""
    calls = []
    monkeypatch.setattr(ray, "init", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


@pytest.fixture
def listening():
    """An address that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _has_run_here(monkeypatch, address):
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda given: address)


@pytest.mark.parametrize(("left_over", "address"), [(None, None), (NOBODY, "local")])
def test_ray_is_started_without_a_word_where_none_runs(asked, monkeypatch, left_over, address):
    """A Ray of the pool's own has no dashboard and logs no steps; what an earlier one left behind is not waited for."""
    _has_run_here(monkeypatch, left_over)
    _ray_start.init()
    assert asked == [((address,), {"include_dashboard": False, "logging_level": logging.WARNING})]


def test_ray_that_runs_here_is_joined_as_ray_itself_would(asked, monkeypatch, listening):
    """A cluster that answers is joined by plain `ray.init()`."""
    _has_run_here(monkeypatch, listening)
    _ray_start.init()
    assert asked == [((), {})]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_ray_that_the_environment_names_is_joined(asked, monkeypatch, listening, scheme):
    """A cluster that `RAY_ADDRESS` names, by whatever protocol, is joined by plain `ray.init()`."""
    monkeypatch.setenv("RAY_ADDRESS", scheme + listening)
    _ray_start.init()
    assert asked == [((), {})]


@pytest.mark.parametrize("address", [NOBODY, f"ray://{NOBODY}", "nonsense"])
def test_ray_that_the_environment_names_and_that_does_not_answer_is_an_error_at_once(asked, monkeypatch, address):
    """Nobody waits for a minute; the error names the variable, its value and the remedy."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConnectionError, match=rf"`RAY_ADDRESS` names .*{address}: start it, or unset `RAY_ADDRESS`"):
        _ray_start.init()
    assert asked == []


def test_ray_that_cannot_be_joined_is_an_error_that_says_what_to_do(asked, monkeypatch, listening):
    """What Ray raises is told with the address and the remedy."""

    def fail(*args, **kwargs):
        raise RuntimeError("no GCS")

    _has_run_here(monkeypatch, listening)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ConnectionError, match=rf"could be joined at {listening}: no GCS; `ray.init\(address\)` before"):
        _ray_start.init()


@pytest.mark.parametrize(
    "told",
    [
        "The actor is dead because all references to the actor were removed including lineage ref count.",
        "The actor is dead because it was cancelled before it started running.",
        "Failed to register actor: SchedulingCancelled",
    ],
)
def test_actor_that_a_dying_cluster_never_started_says_what_to_do(told):
    """Who has joined somebody's cluster that ends is told how to choose another."""
    reason = make_adapter([{}]).death(RuntimeError(told)).reason
    assert "the Ray cluster may be about to end" in reason
    assert "`ray.init('local')` starts one of your own" in reason
