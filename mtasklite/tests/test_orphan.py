"""How a worker learns that its parent is gone: by a pidfd, or where there is none by asking."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import multiprocess
import pytest

from mtasklite._backends import _orphan
from mtasklite._backends._orphan import ParentWatch
from mtasklite.tests import workers

posix_only = pytest.mark.skipif(os.name != "posix", reason="the platform has no such processes")


@pytest.fixture
def pipe():
    """A reader, and the writer to it."""
    reader, writer = multiprocess.Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def other_process():
    """A process that lives until it is told to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


@pytest.fixture(params=[True, False], ids=["pidfd", "asking"])
def watch(request, monkeypatch, pipe, other_process):
    """A watch on the other process as the parent."""
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    watch = ParentWatch(other_process.pid, pipe[0])
    yield watch
    watch.close()


@posix_only
def test_living_parent_is_not_gone(watch):
    """While the parent lives nobody is an orphan."""
    assert not watch.wait(0)
    assert not watch.is_orphan


@posix_only
def test_input_is_seen_while_the_parent_lives(watch, pipe):
    """Input ends the wait, and says so."""
    pipe[1].send_bytes(b"x")
    assert watch.wait(workers.LIMIT_SECONDS)
    assert not watch.is_orphan


@posix_only
def test_end_of_the_parent_is_seen_though_its_channel_stays_open(watch, other_process):
    """A copy of the parent's end in another process hides nothing."""
    other_process.communicate()
    workers.wait_until(lambda: not watch.wait(0.01) and watch.is_orphan)


@posix_only
def test_change_of_the_process_that_forked_is_seen(watch, monkeypatch):
    """Where the parent is the one that forked this process, a new one in its place is enough."""
    monkeypatch.setattr(_orphan.os, "getppid", lambda: 1)
    assert watch.is_orphan


def test_input_is_seen_without_poll(monkeypatch, pipe):
    """On platforms that cannot poll pipes the pipe itself is asked."""
    monkeypatch.delattr(_orphan.select, "poll", raising=False)
    watch = ParentWatch(os.getpid(), pipe[0])
    assert not watch.wait(0)
    pipe[1].send_bytes(b"x")
    assert watch.wait(workers.LIMIT_SECONDS)
    assert not watch.is_orphan


@pytest.mark.parametrize(
    ("platform", "release", "has_lifelines"),
    [
        ("linux", "6.18.44", True),
        ("linux", "5.6.0-rc1", True),
        ("linux", "5.4.0-42-generic", False),
        ("linux", "4.18.0-553.el8", False),
        ("linux", "unknown", False),
        ("darwin", "23.1.0", False),
    ],
)
def test_lifelines_are_for_kernels_that_signal_at_the_end_alone(monkeypatch, platform, release, has_lifelines):
    """Older ones signal whenever any reader closes its end, so the end of one worker would be that of all."""
    monkeypatch.setattr(_orphan.sys, "platform", platform)
    monkeypatch.setattr(_orphan.os, "uname", lambda: types.SimpleNamespace(release=release), raising=False)
    assert _orphan._has_lifelines() is has_lifelines
