"""One writer at a time, held by the operating system and so let go by any kind of death."""

import contextlib
import json
import os
import socket
import time
import weakref
from pathlib import Path

from wsx.errors import StoreError


class WriterLock:
    """An ``flock`` on a small file that says who holds it.

    Raises:
        StoreError: Another process, or another store in this one, holds the lock; the message
            names it. A file left by a dead process does not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _acquire(path)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        # On a full disk the lock has no name, but it holds.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(holder).encode(), 0)
        # A forked worker inherits the descriptor; without this it would hold the lock for its
        # dead parent and block the restart.
        itself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _drop(itself()))

    def release(self) -> None:
        """Remove the file and let go; releasing twice is allowed."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            _drop(self)


def _drop(lock: WriterLock | None) -> None:
    if lock is not None and lock._fd >= 0:
        os.close(lock._fd)
        lock._fd = -1


def _acquire(path: Path) -> int:
    # Imported here so that a system without it can still read.
    try:
        import fcntl
    except ImportError:
        raise StoreError(f"cannot lock {path}: this system has no flock; read it instead") from None

    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(
                f"cannot write beside {path.with_suffix('')}: {error.strerror}. The folder must "
                "exist and be writable; reading needs neither."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder removes the file: a lock on a removed file locks nobody out.
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            holder = os.pread(fd, 4096, 0).decode(errors="replace") or "an unnamed process"
            os.close(fd)
            raise StoreError(
                f"{path.with_suffix('')} is being written by {holder}. One writer at a time: wait "
                "for it or end it; reading is possible meanwhile."
            ) from None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(fd)
            raise StoreError(f"cannot lock {path}: {error.strerror}") from error
        os.close(fd)
