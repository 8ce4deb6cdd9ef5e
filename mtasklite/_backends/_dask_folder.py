"""The folder of a Dask cluster of our own, which is removed also where the program is killed without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from typing import Any

WATCH = 'read word; if [ -z "$word" ]; then sleep 1; rm -rf -- "$1"; fi'
"""What a shell waits for: a word, or the program's end. The cluster's processes outlive it by less than a second."""

LEAVE_SECONDS = 10.0


class Folder:
    """A temporary folder.

    What the cluster's processes write there cannot be removed by them: they end at once when the program is gone. So a
    shell waits for that, where there is one.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="mtasklite-dask-")
        self._watch: Any = None
        if os.name == "posix":
            with suppress(OSError):  # there is no shell: it stays if the program is killed
                self._watch = subprocess.Popen(
                    ["/bin/sh", "-c", WATCH, "mtasklite", self.path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # a Ctrl-C is not for it
                )

    def remove(self) -> None:
        """Remove it with all that is there; nothing if that was done."""
        shutil.rmtree(self.path, ignore_errors=True)
        watch, self._watch = self._watch, None
        if watch is None:
            return
        with suppress(OSError):  # it was killed
            # Not the end of the pipe alone, for a forked child may have that open too.
            watch.communicate(b"done\n", timeout=LEAVE_SECONDS)
