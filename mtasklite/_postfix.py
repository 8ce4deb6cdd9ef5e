"""What stands behind a progress bar: errors, workers that are still being made, results that wait for a slow item."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Callable

QUIET_SECONDS = 0.4
"""Workers that are up so soon start without a word."""

WAITING_SECONDS = 1.0
"""Results that wait for an earlier one are mentioned when they have waited for so long."""


class Postfix:
    """What stands behind the bar; the user's own stays before it.

    Args:
        n_workers: Number of workers.
        own: What the user passed as `postfix`.

    Attributes:
        is_waiting: Whether results wait for an earlier one.
    """

    def __init__(self, n_workers: int, own: Any) -> None:
        self._n_workers = n_workers
        self._parts: dict[str, Any] = dict(own) if isinstance(own, Mapping) else {}
        self._starts_at = time.monotonic() + QUIET_SECONDS
        self._waits_from = 0.0
        self.is_waiting = False
        self.bar: Callable[[], Any] = lambda: None

    def show(self, **parts: Any) -> None:
        """Show more; what is ``None`` is not shown any more."""
        self._parts.update(parts)
        bar = self.bar()
        if hasattr(bar, "set_postfix"):
            bar.set_postfix({name: value for name, value in self._parts.items() if value is not None}, refresh=False)

    def on_start(self, n_up: int) -> None:
        """Show how many workers are up, if they take their time, until all are."""
        before = self._parts.get("workers")
        now = f"{n_up}/{self._n_workers}" if n_up < self._n_workers else None
        if now == before or (before is None and time.monotonic() < self._starts_at):
            return
        self.show(workers=now)
        self._refresh()

    def on_waiting(self, n_waiting: int) -> None:
        """Show how many results wait for an earlier one, if they have waited for long; 0: none does any more."""
        if not n_waiting:
            self.is_waiting = False
            if self._parts.get("waiting") is not None:
                self.show(waiting=None)
        elif not self.is_waiting:
            self.is_waiting = True
            self._waits_from = time.monotonic()
        elif time.monotonic() - self._waits_from >= WAITING_SECONDS and n_waiting != self._parts.get("waiting"):
            self.show(waiting=n_waiting)
            self._refresh()

    def _refresh(self) -> None:
        bar = self.bar()
        if hasattr(bar, "refresh"):
            bar.refresh()
