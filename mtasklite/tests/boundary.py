"""A boundary without a process: this very process plays the other side.

`elsewhere` makes it forget, for a while, which classes it has sent and received, and gives it another ``__main__``.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import types

from mtasklite import _byvalue, _wire

TAG = b"T"


@contextlib.contextmanager
def elsewhere(main=None):
    """Be another process: one that has sent and received no class by value so far, and has this ``__main__``."""
    registries = (_byvalue._token_of_class, _byvalue._class_of_token)
    kept = [dict(registry) for registry in registries]
    our_main, our_process = sys.modules["__main__"], _byvalue._process
    _byvalue._process = _byvalue._Process()
    for registry in registries:
        registry.clear()
    sys.modules["__main__"] = main or types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"], _byvalue._process = our_main, our_process
        for registry, content in zip(registries, kept):
            registry.clear()
            registry.update(content)


def pack(*values, names=()):
    """Return a message for a peer whose ``__main__`` has these names, and what could not be packed."""
    message, failures = _wire.Codec(frozenset(names)).pack(TAG, None, list(values))
    return bytes(message), failures


def send(value, names=()):
    """Return the message with one value; if it cannot be packed, raise."""
    message, failures = pack(value, names=names)
    if failures:
        raise failures[0]
    return message


def receive(message):
    """Return the one value of a message; if it cannot be rebuilt, raise."""
    _, (value,), failures = _wire.unpack(message)
    if failures:
        raise failures[0]
    return value


def there_and_back(value, work=lambda value: value):
    """Send a value to another process, work on it there, and fetch what comes of it."""
    message = send(value)
    with elsewhere():
        answer = send(work(receive(message)))
    return receive(answer)


def script(source):
    """Return a ``__main__`` that ran this source."""
    module = types.ModuleType("__main__")
    exec(textwrap.dedent(source), vars(module))
    return module
