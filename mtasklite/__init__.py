"""Map stateful workers lazily over any iterable, on processes or threads, with a progress bar."""

from mtasklite.constants import ArgumentPassing, ExceptionBehaviour
from mtasklite.delayed_init import delayed_init
from mtasklite.errors import (
    DeferredExceptions,
    MtaskliteError,
    PoolClosedError,
    RemoteError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerInitError,
)
from mtasklite.pool import Pool
from mtasklite.utils import is_exception
from mtasklite.version import __version__

__all__ = [
    "ArgumentPassing",
    "DeferredExceptions",
    "ExceptionBehaviour",
    "MtaskliteError",
    "Pool",
    "PoolClosedError",
    "RemoteError",
    "SerializationError",
    "TaskTimeoutError",
    "WorkerDiedError",
    "WorkerInitError",
    "__version__",
    "delayed_init",
    "is_exception",
]
