"""What the driver asks of a backend: start, send, poll, kill, end. A backend decides nothing."""

from __future__ import annotations

from typing import Any, Callable, Optional, Protocol

from mtasklite._messages import Batch, Event, Receipt


class Backend(Protocol):
    """Runs workers, each in a slot of its own.

    Attributes:
        max_ahead_bytes: Pickled bytes that may be queued behind what a worker is at.
        max_batch_items: Items that may be sent together; ``None``: any number.
        max_message_bytes: Pickled bytes that a batch, or what comes of one, should not exceed; ``None``: as elsewhere.
        freeze: Makes of an item, when it is read, what `send` takes and no later change reaches; ``None``: workers get
            the items themselves.
        batch_scale: How many times as long batches are to be as where a message costs 0.1 ms.
    """

    max_ahead_bytes: int
    max_batch_items: Optional[int]
    max_message_bytes: Optional[int]

    @property
    def freeze(self) -> Optional[Callable[[Any], Any]]: ...

    @property
    def batch_scale(self) -> float: ...

    def start(self, slot: int) -> bool:
        """Start a worker in an empty slot; `Ready` or `InitFailed` will follow.

        Returns:
            False if too many retired workers are still leaving; `poll` ends when one has left.
        """

    def send(self, slot: int, batch: Batch) -> Receipt:
        """Send a batch to a worker; one `Run` or more will follow, or `Lost`."""

    def poll(self, seconds: Optional[float]) -> list[Event]:
        """Return what has happened; if nothing has, wait for it, at most so long (``None``: for ever)."""

    def running(self) -> list[tuple[int, int, float]]:
        """Return what the status board says of each worker that is at something.

        Returns:
            Slot; sequence number of its item, or `CONSTRUCTING` or `UNPACKING`; when it started that.
        """

    def peaks(self) -> list[tuple[int, int]]:
        """Return the most memory that workers in their own processes have had: slot and bytes, where that is known."""

    def kill(self, slot: int, number: int) -> bool:
        """End a worker at once, if it is still at what it was said to be running.

        Returns:
            Whether it was; `Lost` or `InitFailed` will follow then, else it goes on.
        """

    def retire(self, slot: int) -> None:
        """Let a worker that holds nothing end in good order; its slot is empty from now on.

        `ExitFailed` may follow.
        """

    def cancel(self, slot: int) -> None:
        """Make a worker drop what it holds, but for the item that it is at; `Ready` will follow."""

    def take_back(self, slot: int) -> None:
        """Ask a worker for what it has not begun; `Returned` will follow."""

    def resume(self, slot: int) -> None:
        """Let a worker go on that waits because much of what it has sent was not taken."""

    def close(self, seconds: Optional[float]) -> list[Event]:
        """End all workers: let them finish the item that they are at, at most so long, then terminate them.

        Those that are past the time limit of a task are ended at that.

        Returns:
            `InitFailed` and `ExitFailed` of those that it is true of.
        """

    def terminate(self) -> None:
        """End all workers at once."""
