"""Locks that end with the process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, *, wait: bool = False) -> int | None:
    """An open file that holds the lock (close it to give it back); None if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if retake(held, wait=wait):
        return held
    os.close(held)
    return None


def retake(held: int, *, wait: bool = False) -> bool:
    """Lock an open file; False if somebody else has it."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def give(held: int) -> None:
    """Unlock, and keep the file open."""
    fcntl.flock(held, fcntl.LOCK_UN)


@contextmanager
def holding(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock within; the value says whether it is ours."""
    held = take(path, wait=wait)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)
