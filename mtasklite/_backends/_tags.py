"""What a worker in a process or an actor is told, and says: the first byte of each message."""

from __future__ import annotations

# To a worker: what it is, items, orders.
START, WORKER, BATCH, SINGLE = b"G", b"W", b"B", b"I"
TAKE_BACK, CANCEL, HOLD, STOP, RESUME = b"T", b"C", b"O", b"S", b"U"

# From it: that it is there, that it is up or not, outcomes, answers to orders, its last words, that it is gone.
HELLO, READY, INIT_FAILED, RUN = b"H", b"Y", b"F", b"R"
RETURNED, HELD, PRINTED, DYING, LEFT = b"K", b"E", b"P", b"D", b"L"
