"""Locks on files. The system releases a lock when the process that holds it ends, for whatever reason."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, *, wait: bool = False) -> int | None:
    """Open and lock a file. Returns its descriptor (closing it releases the lock); None if the lock is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if retake(held, wait=wait):
        return held
    os.close(held)
    return None


def retake(held: int, *, wait: bool = False) -> bool:
    """Lock an open file again. Returns False if the lock is taken."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def give(held: int) -> None:
    """Release the lock and keep the file open."""
    fcntl.flock(held, fcntl.LOCK_UN)


@contextmanager
def holding(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock within the `with` block. The value is False if the lock is taken by another process."""
    held = take(path, wait=wait)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)
