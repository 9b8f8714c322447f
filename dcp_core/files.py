"""Where files of ours live, and how they are written so that nobody ever reads half of one."""

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
    """The folder of everything a user downloads or makes (`data/`, `victims/`, `runs/`).

    One setting decides it: the environment variable `DCP_HOME`; `~/.dcp` without it.
    """
    return Path(os.environ.get("DCP_HOME", "~/.dcp")).expanduser()


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then move it there in one step.

    Readers see the old file or the whole new one, also when this process is killed half-way.
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
