"""Read a user's own folder of pictures as arrays: `folder/[train|test/]class/picture`, or a flat query pool."""

from pathlib import Path

import numpy as np

from dcp_core.data.images import ImageError, read_image
from dcp_core.data.tensors import to_tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_folder(folder: Path, split: str, size: int) -> dict[str, np.ndarray]:
    """Read the pictures below a folder, cropped to their centre square and resized to `size` x `size`.

    Without sub-folders `train/` and `test/`, the same pictures serve for both splits.

    Returns:
        `x` uint8 (N, size, size, 3); if there are sub-folders, also `y` int64 (N,) and `classes`, their names. Empty for
        a folder without pictures.

    Raises:
        ImageError: for a picture that cannot be read (the message names the file), or if pictures lie beside class
            folders.
    """
    root = folder / split if (folder / split).is_dir() else folder
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    classes = sorted({p.parent.name for p in files if p.parent != root})
    x = np.empty((len(files), size, size, 3), np.uint8)
    for index, path in enumerate(files):
        try:
            x[index] = (to_tensor(read_image(path), size) * 255).round().permute(1, 2, 0).numpy()
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
    if not files:
        return {}
    if not classes:
        return {"x": x}
    if any(p.parent == root for p in files):
        raise ImageError(
            f"{root} contains pictures beside class folders: put each picture into the folder of its class"
        )
    y = np.array([classes.index(p.parent.name) for p in files], np.int64)
    return {"x": x, "y": y, "classes": np.array(classes)}
