"""The folders of this project's files, careful reading and atomic writing."""

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_BYTES = 16 * 2**30  # a larger file is not one of this program
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
PACKAGE = Path(__file__).resolve().parent
# The folder of app.py, pages/ and precomputed/: inside an installed package, or else the repository around it.
SHIPPED = PACKAGE / "_shipped" if (PACKAGE / "_shipped").is_dir() else PACKAGE.parent
PRECOMPUTED = SHIPPED / "precomputed"


def home() -> Path:
    """The folder of all files that a user downloads or makes (`data/`, `victims/`, `runs/`, `results/`).

    It is the environment variable `DCP_HOME`, by default `~/.dcp`.
    """
    return Path(os.environ.get("DCP_HOME", "~/.dcp")).expanduser()


def disk_trouble(error: BaseException) -> bool:
    """Whether an error says that this machine's disk is full or cannot be written."""
    return isinstance(error, OSError) and error.errno in (*FULL, *CLOSED)


def explained(error: OSError, again: str = "give the same command again") -> str:
    """An error of the operating system in one or two sentences: what failed, with which file, and what to do.

    Args:
        again: what to do when there is room on the disk.
    """
    what = error.strerror or str(error) or type(error).__name__
    where = f": {error.filename}" if error.strerror and error.filename else ""
    advice = ""
    if error.errno in FULL:
        advice = f". Free some disk space, then {again}"
    elif error.errno in CLOSED:
        advice = ". Change its permissions, or choose another folder (DCP_HOME, or the command's --to)"
    elif error.errno == errno.ENOENT:
        advice = ". Check the path"
    return f"{what}{where}{advice}"


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; anything else, such as a named pipe, is refused at once instead of waited for.

    Raises:
        OSError: for a file that cannot be opened or is not a regular one.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: for a file that cannot be read, is larger or is not a regular one.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path} is larger than {most:,} bytes")
    return content


def read_object(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a regular file of at most `most` bytes. All its texts can be encoded as UTF-8.

    Raises:
        OSError: as `read_regular`.
        ValueError: for a file with anything else.
    """
    try:
        given = json.loads(read_regular(path, most))
        json.dumps(given, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path} is not a JSON object")
    return given


def remove_temporary(folder: Path, names: Iterable[str]) -> None:
    """Delete the temporary files of `write_atomic` for these file names, left by processes that were killed."""
    for name in names:
        for each in folder.glob(f".{name}.*"):
            each.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Write a file atomically: readers see the old file or the complete new one, even if this process is killed.

    Args:
        write: called with a temporary binary file in the same folder, which then replaces `path`.
        keep: another path in the same folder, which gets the old file. If this process is killed between the two
            steps, `path` is missing.

    Raises:
        OSError: if the file cannot be written; it names `path`, which is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomic(path, write, keep)
    except OSError as error:
        error.filename = str(path)  # not the temporary file
        raise


def _write_atomic(path: Path, write: Callable[[BinaryIO], object], keep: Path | None) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
