"""All workers' places together: who may be given a batch, and who holds what others could do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from mtasklite._slots import Slot


class Roster:
    """The slots of a pool, in the order in which they should be given work.

    Args:
        slots: The slots, as the last iteration left them.

    Attributes:
        n_live: Workers that live or start.
        items_ahead: Items that all of them together do in the time that may be read ahead.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        # Slots that may be given a batch, by how many they have; dicts, for the order of arrival.
        self._hungry: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self.n_live = sum(slot.is_live for slot in slots)
        self.items_ahead = sum(slot.pace.items_ahead for slot in slots if slot.is_live)
        for slot in slots:
            self.place(slot)

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def next_hungry(self) -> Optional[Slot]:
        """The slot that should be given a batch before all others: one that has none, if there is one."""
        for slots in self._hungry:
            for index in slots:
                return self._slots[index]
        return None

    def place(self, slot: Slot) -> None:
        """Put a slot where `next_hungry` finds it, if it may be given a batch."""
        for slots in self._hungry:
            slots.pop(slot.index, None)
        if slot.may_be_given_a_batch:
            self._hungry[len(slot.batches)][slot.index] = None

    def record(self, slot: Slot, n_items: int, busy_seconds: float) -> None:
        """Take in what a worker has shown of its speed; it is to be placed anew."""
        self.items_ahead -= slot.pace.items_ahead
        slot.pace.record(n_items, busy_seconds)
        self.items_ahead += slot.pace.items_ahead

    def give_up(self, slot: Slot) -> None:
        """Leave a slot empty for good."""
        slot.is_live = False
        self.n_live -= 1
        self.items_ahead -= slot.pace.items_ahead
        self.place(slot)

    @property
    def holders(self) -> list[Slot]:
        """The slots whose workers hold more than they are at, if others have nothing; those that were asked are not."""
        if not self._hungry[0]:
            return []
        return [slot for slot in self._slots if slot.may_be_asked]
