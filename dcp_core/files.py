"""The folders of this project's files, and atomic writing."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PACKAGE = Path(__file__).resolve().parent
# The folder of app.py, pages/ and precomputed/: inside an installed package, or else the repository around it.
SHIPPED = PACKAGE / "_shipped" if (PACKAGE / "_shipped").is_dir() else PACKAGE.parent
PRECOMPUTED = SHIPPED / "precomputed"


def home() -> Path:
    """The folder of all files that a user downloads or makes (`data/`, `victims/`, `runs/`, `results/`).

    It is the environment variable `DCP_HOME`, by default `~/.dcp`.
    """
    return Path(os.environ.get("DCP_HOME", "~/.dcp")).expanduser()


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: readers see the old file or the complete new one, even if this process is killed.

    Args:
        write: called with a temporary binary file in the same folder, which then replaces `path`.

    Raises:
        OSError: if the file cannot be written; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
