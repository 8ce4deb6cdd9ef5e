"""How a worker process learns that its parent is gone, which may be killed without a word."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from contextlib import suppress
from typing import Any, Optional

if sys.platform == "linux":
    import fcntl
else:
    fcntl = None

CHECK_SECONDS = 1.0

FIRST_KERNEL = (5, 6)
"""Linux before this signals all owners of a pipe's descriptors whenever one of them is closed, not only at its end."""


def _has_lifelines() -> bool:
    if sys.platform != "linux":
        return False
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return version is not None and (int(version[1]), int(version[2])) >= FIRST_KERNEL


HAS_LIFELINES = _has_lifelines()


def hang_on(lifeline: Any) -> None:
    """Let the kernel kill this process when the other end of a pipe is closed.

    The attendant thread cannot end a process in which C code holds the interpreter's lock; the kernel can. It sends
    the owner of a descriptor a signal of the owner's choice when something happens to it, which here is its end alone.

    Args:
        lifeline: A connection for reading.
    """
    if fcntl is None:
        return
    with suppress(OSError):  # without /proc, say; the attendant is left
        # Opened anew, for signals belong to what is opened, and all workers share what came by fork.
        descriptor = os.open(f"/proc/self/fd/{lifeline.fileno()}", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()
        poll.register(descriptor, 0)
        if poll.poll(0):
            os._exit(1)  # it ended before


class ParentWatch:
    """Waits for input from the parent, or for its end.

    The end of the channel would say so too, were it not for copies of the parent's end in children that it forked. So
    the parent is watched by a pidfd where there is such a thing, else by asking now and then whether it is there.

    Args:
        parent: Its process id. Under forkserver it is not the process that forked this one.
        channel: What becomes readable when there is input.
    """

    def __init__(self, parent: int, channel: Any) -> None:
        self._parent = parent
        self._channel = channel
        self._forked_by = os.getppid()
        self._poll: Any = None
        self._pidfd: Optional[int] = None
        self._has_ended = False
        if hasattr(select, "poll"):
            self._poll = select.poll()  # a selector takes longer over each wait
            self._poll.register(channel, select.POLLIN)
            self._watch_by_pidfd()

    def _watch_by_pidfd(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self._parent)
                self._poll.register(self._pidfd, select.POLLIN)

    def wait(self, seconds: Optional[float]) -> bool:
        """Wait so long at most, or for as long as is safe; return whether there is input."""
        if seconds is None:
            seconds = CHECK_SECONDS
        if self._poll is None:
            return bool(self._channel.poll(seconds))
        ready = {descriptor for descriptor, _ in self._poll.poll(1000 * seconds)}
        self._has_ended = self._pidfd in ready
        return bool(ready - {self._pidfd})

    @property
    def is_orphan(self) -> bool:
        """Whether the parent is gone."""
        if self._has_ended or os.getppid() != self._forked_by:
            return True
        return self._pidfd is None and os.name == "posix" and not _exists(self._parent)

    def close(self) -> None:
        """Give back what it holds."""
        if self._pidfd is not None:
            os.close(self._pidfd)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, and another user's
    return True
