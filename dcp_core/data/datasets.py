"""Data sets by name.

A data set is one `.npz` file in `home()/data` with the arrays `x_train`, `y_train`, `x_test`, `y_test` and `classes`.
Pictures are uint8 (N, H, W, 3), labels are integers. `download(name)` creates the file from the published source. The
drawn sets need no download: they are created when they are first used. A user's own `.npz` file or folder of pictures
is named by its path, or by the name of its file if it is in `home()/data`.
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
from dcp_core.files import disk_trouble, home, open_regular, write_atomic

Split = Literal["train", "test"]
Knowledge = Literal["knowledgeable", "limited", "data-free"]


class DataError(ValueError):
    """A data set that is missing or unusable. The message says what to do."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures in memory: `images` uint8 (N, 3, H, W), `labels` int64 (N,), or None for a query pool without labels."""

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
    """Properties of a named data set, known before it is downloaded.

    Args:
        classes: number of classes; 0 for a query pool without labels.
        size: side of its pictures in pixels.
        flip: whether a mirrored picture keeps its label.
        make: creates the arrays of the `.npz` file, given a scratch folder.
        drawn: whether this package draws it, so that no download is needed.
        related: names of query pools with similar pictures, for a thief who knows what the victim was trained on.
    """

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


DRAWN_PICTURES = {"signs-train": 30_000, "signs-test": 10_000, "signs_pool_small-train": 4096}
MOST_DRAWN = 30_000  # pictures in every other drawn set


def thief_knowledge(dataset: str, pool: str | None) -> Knowledge:
    """The knowledge that a thief who queries `pool` has about the training data of the victim.

    "knowledgeable": the pool has pictures of the same kind. "limited": it has other pictures. "data-free": there is no
    pool; the thief generates its own pictures.
    """
    if pool is None:
        return "data-free"
    related = DATASETS[dataset].related if dataset in DATASETS else ()
    return "knowledgeable" if pool in (dataset, *related) else "limited"


def pool_words(dataset: str, pool: str, *, named: bool = True) -> str:
    """The query pool of a thief in words: "similar pictures (signs_pool)" or "other pictures (textures)"; of a victim whose
    training data are unknown, "pictures (mine)".

    Args:
        named: whether the text also has the pool's name.
    """
    known = dataset in (*DATASETS, pool)
    kind = "similar " if thief_knowledge(dataset, pool) == "knowledgeable" else "other "
    return f"{kind if known else ''}pictures" + (f" ({Path(pool).name})" if named else "")


def pools_for(dataset: str, size: int, knowledge: Knowledge) -> list[str]:
    """Names of the query pools for a thief with this knowledge, those on this machine first.

    The victim's own data set is left out, and so are larger pictures than the victim's, unless there are no others. If no
    related set is known, a knowledgeable thief gets the other sets.

    Args:
        size: side in pixels of the victim's pictures.
    """
    if knowledge == "data-free":
        return []
    related = DATASETS[dataset].related if dataset in DATASETS else ()
    others = [name for name in DATASETS if name not in (dataset, *related)]
    others = [name for name in others if DATASETS[name].size <= size] or others
    fitting = related or others if knowledge == "knowledgeable" else others
    return sorted(fitting, key=lambda name: not available(name))


def path_of(name: str) -> Path:
    """Path of the `.npz` file of a named data set, whether or not it exists."""
    return home() / "data" / f"{name}.npz"


def available(name: str) -> bool:
    """Whether `load(name, ...)` works without a download."""
    return name not in DATASETS or DATASETS[name].drawn or path_of(name).exists()


def pictures(name: str, split: Split, size: int = 32) -> int:
    """Number of pictures in one split of a data set. Nothing is drawn or decoded to find it.

    Raises:
        DataError: as `load`.
    """
    if name in DATASETS and DATASETS[name].drawn:
        return DRAWN_PICTURES.get(f"{name}-{split}", MOST_DRAWN)
    folder = Path(name).expanduser()
    if name not in DATASETS and folder.is_dir() and not _is_kept(name):
        return len(folders.pictures_of(folder, split)[1])
    return len(load(name, split, size=size))


def download(name: str) -> Path:
    """Download or draw a named data set, with progress on standard error. Returns its path.

    Does nothing if the file already exists.

    Raises:
        DataError: for an unknown name, without an internet connection, or if the downloaded files are not as expected.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set '{name}'; known: {', '.join(DATASETS)}")
    path = path_of(name)
    if path.exists():
        return path
    try:
        arrays = DATASETS[name].make(path.parent / "sources" / name)
    except (OSError, RuntimeError) as error:
        if disk_trouble(error):
            raise
        raise DataError(
            f"{DATASETS[name].title} could not be downloaded ({error}). Check the connection and try again, or put "
            f"a file with x_train, y_train, x_test, y_test and classes at {path}"
        ) from error
    write_atomic(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    return path


def load(
    name: str,
    split: Split,
    limit: int | None = None,
    size: int = 32,
    report: Callable[[str], object] = lambda words: None,
) -> ImageSet:
    """Load one split of a data set, by its name or by the path of a user's own `.npz` file or folder.

    Args:
        limit: load only the first `limit` pictures.
        size: side in pixels to which the pictures of a folder are resized; other data sets have a fixed size.
        report: called with a sentence on the progress while a set is drawn, which takes seconds the first time.

    Raises:
        DataError: if the data set is not on this machine (the message names the command that downloads it) or is
            damaged.
    """
    if name in DATASETS:
        path = path_of(name)
        if DATASETS[name].drawn and not path.exists():
            path = _draw(name, split, report)
        if not path.exists():
            raise DataError(
                f"{DATASETS[name].title} is not on this machine: run  python -m dcp_core data download {name}"
            )
    else:
        path = path_of(name) if _is_kept(name) else Path(name).expanduser()
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


def _is_kept(name: str) -> bool:
    """Whether this is the name of a file in `home()/data`, and not a path."""
    return Path(name).name == name and path_of(name).exists()


def _draw(name: str, split: Split, report: Callable[[str], object]) -> Path:
    """Path of one split of a drawn set, which is drawn if it is missing.

    Each split has its own file, so that a test set is available before 30,000 training pictures are drawn.
    """
    path = path_of(f"{name}-{split}")

    def follow(blocks: list) -> Iterator:
        words = f"drawing {name} ({split}), once"
        bar = tqdm(blocks, desc=words, unit="x256", delay=1, leave=False, disable=None)  # only on a terminal
        for done, block in enumerate(bar):
            report(f"{words}: {done / len(blocks):.0%}")
            yield block

    if not path.exists():
        arrays = DATASETS[name].make(path.parent, (split,), follow)
        write_atomic(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    return path


def test_picture(name: str, index: int) -> Tensor:
    """One picture of a test set, uint8 (3, H, W). For the drawn signs, no other picture is drawn.

    Raises:
        DataError: as `load` does, and for an index outside the test set.
    """
    if name == "signs":
        return synthetic.signs(1, sources.SIGNS_TEST, index)[0][0]
    images = _test_set(name).images
    if not 0 <= index < len(images):
        raise DataError(f"{name} has {len(images)} test pictures, numbered from 0; there is no picture {index}")
    return images[index]


@lru_cache(maxsize=2)
def _test_set(name: str) -> ImageSet:
    return load(name, "test")


def _read_npz(path: Path, split: Split) -> dict[str, np.ndarray]:
    wanted = {f"x_{split}": "x", f"y_{split}": "y", "classes": "classes"}
    try:
        with open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            return {short: file[key] for key, short in wanted.items() if key in file.files}
    except Exception as error:  # a damaged zip raises many types of error
        raise DataError(f"{path} is not a readable .npz file of plain arrays ({error})") from error


def _checked(name: str, split: Split, arrays: dict[str, np.ndarray], limit: int | None) -> ImageSet:
    """Turn raw arrays into an `ImageSet`; raise a `DataError` that says what is wrong with them."""
    if "x" not in arrays:
        raise DataError(f"{name} has no '{split}' pictures: it needs an array x_{split}, or a folder {split}/")
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
        raise DataError(f"{name}: the largest label is {count - 1}, but there are only {len(classes)} class names")
    images = torch.from_numpy(np.ascontiguousarray(x[:limit].transpose(0, 3, 1, 2)))
    return ImageSet(name, images, labels, classes)
