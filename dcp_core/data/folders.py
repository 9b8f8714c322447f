"""Read a user's own folder of pictures as arrays: `folder/[train|test/]class/picture`, or a flat query pool.

Decoding photographs takes long, and every run reads its pool. The arrays are therefore kept in `home()/data/.folders` and
taken from there while the folder has the same files.
"""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from dcp_core.data.images import ImageError, read_image
from dcp_core.data.tensors import to_tensor
from dcp_core.files import home, open_regular, write_atomic

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
NAMED = 3  # unreadable pictures that a message names
ROOMY = 10  # arrays are only kept if the disk has this many times their size free


def pictures_of(folder: Path, split: str) -> tuple[Path, list[Path]]:
    """The folder that has the pictures of a split, and their paths, sorted.

    Without sub-folders `train/` and `test/`, the same pictures serve for both splits.
    """
    root = folder / split if (folder / split).is_dir() else folder
    return root, sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def read_folder(folder: Path, split: str, size: int) -> dict[str, np.ndarray]:
    """Read the pictures below a folder, cropped to their centre square and resized to `size` x `size`.

    Returns:
        `x` uint8 (N, size, size, 3); if there are sub-folders, also `y` int64 (N,) and `classes`, their names. Empty for
        a folder without pictures.

    Raises:
        ImageError: if pictures cannot be read (the message has their number and names the first), or if pictures lie
            beside class folders.
    """
    root, files = pictures_of(folder, split)
    classes = sorted({p.parent.name for p in files if p.parent != root})
    if not files:
        return {}
    if classes and any(p.parent == root for p in files):
        raise ImageError(
            f"{root} contains pictures beside class folders: put each picture into the folder of its class"
        )
    x = _decoded(root, files, size)
    if not classes:
        return {"x": x}
    y = np.array([classes.index(p.parent.name) for p in files], np.int64)
    return {"x": x, "y": y, "classes": np.array(classes)}


def _decoded(root: Path, files: list[Path], size: int) -> np.ndarray:
    """The pictures as uint8 (N, size, size, 3), kept from an earlier call if no file has changed since."""
    stamps = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    place = hashlib.sha256(f"{root.resolve()} {size}".encode()).hexdigest()[:16]
    content = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    kept = home() / "data" / ".folders" / f"{place}-{content}.npy"
    try:
        with open_regular(kept) as file:
            return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        x = _decode(files, size)
    with suppress(OSError):  # without room on the disk, the folder is decoded again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in kept.parent.glob(f"{place}-*.npy"):
            old.unlink(missing_ok=True)
        if shutil.disk_usage(kept.parent).free > ROOMY * x.nbytes:
            write_atomic(kept, lambda file: np.save(file, x))
    return x


def _decode(files: list[Path], size: int) -> np.ndarray:
    x = np.empty((len(files), size, size, 3), np.uint8)
    problems = []
    for index, path in enumerate(files):
        try:
            x[index] = (to_tensor(read_image(path), size) * 255).round().permute(1, 2, 0).numpy()
        except ImageError as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise ImageError(
            f"{len(problems)} of {len(files):,} pictures cannot be read. Replace them or take them out of the folder: "
            + some_of(problems)
        )
    return x


def some_of(problems: Sequence[str]) -> str:
    """The first `NAMED` problems in one line, and "..." if there are more."""
    more = ["..."] if len(problems) > NAMED else []
    return "; ".join([*problems[:NAMED], *more])
