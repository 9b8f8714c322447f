"""Named sets of pictures.

A data set is one `.npz` file in `home()/data`: `x_train`, `y_train`, `x_test`, `y_test`, `classes`, with pictures
as uint8 (N, H, W, 3) and labels as integers. `download(name)` makes it from its published source; the drawn sets
are made on first use; a user's own `.npz` or folder of pictures is named by its path.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dcp_core.data import folders, sources, synthetic
from dcp_core.data.images import ImageError
from dcp_core.files import home, write_atomic

Split = Literal["train", "test"]
Knowledge = Literal["knowledgeable", "limited", "data-free"]


class DataError(ValueError):
    """A data set is missing or unusable; the message says what to do next."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures in memory: uint8 (N, 3, H, W), labels int64 (N,) or None for a mere query pool."""

    name: str
    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def drawn(self, count: int, seed: int) -> "ImageSet":
        """At most `count` of the pictures, drawn at random without replacement, in random order."""
        pick = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]
        labels = None if self.labels is None else self.labels[pick]
        return dataclasses.replace(self, images=self.images[pick], labels=labels)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is here. `flip`: a mirrored picture keeps its label; `related`: sets with the
    same kind of pictures, which a thief asks about who knows what the victim was trained on."""

    title: str
    classes: int
    size: int
    flip: bool
    make: Callable[..., dict[str, np.ndarray]]
    drawn: bool = False
    note: str = ""
    related: tuple[str, ...] = ()


RELATED_TO_SIGNS = ("signs_pool_small", "signs_pool")
DATASETS: dict[str, DatasetInfo] = {
    "signs": DatasetInfo(
        "Signs (drawn by us)", 16, 32, False, sources.signs, True, "embedded: no download", RELATED_TO_SIGNS
    ),
    "signs_pool": DatasetInfo(
        "Signs, other pictures (drawn by us)", 0, 32, False, sources.signs_pool, True, "query pool only"
    ),
    "signs_pool_small": DatasetInfo(
        "Signs, 4,096 other pictures (drawn by us)",
        0,
        32,
        False,
        sources.signs_pool_small,
        True,
        "query pool only",
    ),
    "textures": DatasetInfo("Textures (drawn by us)", 0, 32, True, sources.textures, True, "query pool only"),
    "cifar10": DatasetInfo("CIFAR-10", 10, 32, True, sources.cifar10, related=("cifar100",)),
    "cifar100": DatasetInfo("CIFAR-100", 100, 32, True, sources.cifar100, related=("cifar10",)),
    "svhn": DatasetInfo("SVHN", 10, 32, False, sources.svhn, note="street-view house numbers"),
    "gtsrb": DatasetInfo("GTSRB", 43, 32, False, sources.gtsrb, note="German traffic signs"),
    "cub200": DatasetInfo("CUB-200-2011", 200, 224, True, sources.cub200, note="birds"),
    "voc": DatasetInfo("Pascal VOC 2012", 0, 224, True, sources.voc, note="query pool only"),
}


def thief_knowledge(dataset: str, pool: str | None) -> Knowledge:
    """What a thief who asks about `pool` knows of the data set that the victim was trained on.

    "knowledgeable": the pool has the same kind of pictures. "limited": it has others. "data-free": there is no pool, the
    thief makes its own pictures.
    """
    if pool is None:
        return "data-free"
    related = DATASETS[dataset].related if dataset in DATASETS else ()
    return "knowledgeable" if pool in (dataset, *related) else "limited"


def pool_words(dataset: str, pool: str) -> str:
    """What a thief asks about, in words: "similar pictures (signs_pool)" or "other pictures (textures)"."""
    kind = "similar" if thief_knowledge(dataset, pool) == "knowledgeable" else "other"
    return f"{kind} pictures ({Path(pool).name})"


def pools_for(dataset: str, size: int, knowledge: Knowledge) -> list[str]:
    """Named data sets that a thief of such knowledge may ask about, those on this machine first.

    The victim's own training set is left out. Where no related set is known, a knowledgeable thief gets the others.

    Args:
        size: side in pixels of the victim's pictures.
    """
    if knowledge == "data-free":
        return []
    related = DATASETS[dataset].related if dataset in DATASETS else ()
    others = [name for name, info in DATASETS.items() if name not in (dataset, *related) and info.size == size]
    fitting = related or others if knowledge == "knowledgeable" else others
    return sorted(fitting, key=lambda name: not available(name))


def path_of(name: str) -> Path:
    """Where the file of a named data set is, or would be."""
    return home() / "data" / f"{name}.npz"


def available(name: str) -> bool:
    """Whether `load(name, ...)` needs no download."""
    return name not in DATASETS or DATASETS[name].drawn or path_of(name).exists()


def download(name: str) -> Path:
    """Fetch or draw a named data set, with progress on standard error; a no-op when it is here.

    Raises:
        DataError: for an unknown name, without a connection, or when the source is not what it should be.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set '{name}'; known: {', '.join(DATASETS)}")
    path = path_of(name)
    if path.exists():
        return path
    try:
        arrays = DATASETS[name].make(path.parent / "sources" / name)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{DATASETS[name].title} could not be fetched ({error}). Check the connection and try again, or put "
            f"a file with x_train, y_train, x_test, y_test and classes at {path}"
        ) from error
    write_atomic(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    return path


def load(
    name: str,
    split: Split,
    limit: int | None = None,
    size: int = 32,
    tell: Callable[[str], object] = lambda words: None,
) -> ImageSet:
    """One split of a data set, by its name or by the path of a user's own `.npz` or folder.

    Args:
        limit: keep only the first so many pictures.
        size: side in pixels of the pictures of a folder (other sets have their own).
        tell: told in words how far the drawing of a set is, which takes seconds the first time.

    Raises:
        DataError: for a data set that is not here (the message names the command that brings it) or is broken.
    """
    if name in DATASETS:
        path = path_of(name)
        if DATASETS[name].drawn and not path.exists():
            path = _draw(name, split, tell)
        if not path.exists():
            raise DataError(
                f"{DATASETS[name].title} is not on this machine: run  python -m dcp_core data download {name}"
            )
    else:
        path = Path(name).expanduser()
    if path.is_dir():
        try:
            arrays = folders.read_folder(path, split, size)
        except ImageError as error:
            raise DataError(str(error)) from error
    elif path.suffix == ".npz" and path.exists():
        arrays = _read_npz(path, split)
    else:
        raise DataError(
            f"no data set '{name}': give one of {', '.join(DATASETS)}, or the path of an .npz file or a folder"
        )
    return _checked(name, split, arrays, limit)


def _draw(name: str, split: Split, tell: Callable[[str], object]) -> Path:
    """The file of one split of a drawn set: who needs a test set must not wait for 30,000 training pictures."""
    path = path_of(f"{name}-{split}")

    def follow(blocks: list) -> Iterator:
        words = f"drawing {name} ({split}), once"
        bar = tqdm(blocks, desc=words, unit="x256", delay=1, leave=False, disable=None)  # only for a person
        for done, block in enumerate(bar):
            tell(f"{words}: {done / len(blocks):.0%}")
            yield block

    if not path.exists():
        arrays = DATASETS[name].make(path.parent, (split,), follow)
        write_atomic(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    return path


def test_picture(name: str, index: int) -> Tensor:
    """One picture of a test set, uint8 (3, H, W); of the drawn signs, without drawing the others.

    Raises:
        DataError: as `load`, and for an index beyond the test set.
    """
    if name == "signs":
        return synthetic.signs(1, sources.SIGNS_TEST, index)[0][0]
    images = _test_set(name).images
    if not 0 <= index < len(images):
        raise DataError(f"{name} has {len(images)} test pictures; there is no number {index}")
    return images[index]


@lru_cache(maxsize=2)
def _test_set(name: str) -> ImageSet:
    return load(name, "test")


def _read_npz(path: Path, split: Split) -> dict[str, np.ndarray]:
    wanted = {f"x_{split}": "x", f"y_{split}": "y", "classes": "classes"}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {short: file[key] for key, short in wanted.items() if key in file.files}
    except Exception as error:  # a zip of arrays can be broken in every way there is
        raise DataError(f"{path} is not a readable .npz file of plain arrays ({error})") from error


def _checked(name: str, split: Split, arrays: dict[str, np.ndarray], limit: int | None) -> ImageSet:
    """Turn raw arrays into an `ImageSet`, or say what is wrong with them."""
    if "x" not in arrays:
        raise DataError(f"{name} has no '{split}' pictures (an array x_{split}, or a folder {split}/)")
    x = arrays["x"]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3:
        raise DataError(f"{name}: x_{split} must be uint8 (N, H, W, 3), not {x.dtype} {x.shape}")
    labels = None
    if "y" in arrays:
        y = arrays["y"]
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
            raise DataError(f"{name}: y_{split} must be {len(x)} whole numbers from 0, not {y.dtype} {y.shape}")
        labels = torch.from_numpy(y[:limit].astype(np.int64))
    count = int(arrays["y"].max()) + 1 if labels is not None and len(x) else 0
    classes = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else tuple(map(str, range(count)))
    if len(classes) < count:
        raise DataError(f"{name}: labels reach {count - 1} but there are only {len(classes)} class names")
    images = torch.from_numpy(np.ascontiguousarray(x[:limit].transpose(0, 3, 1, 2)))
    return ImageSet(name, images, labels, classes)
