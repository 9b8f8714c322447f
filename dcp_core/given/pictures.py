"""The labelled test pictures with which a given network is checked, from a folder or an `.npz` file."""

import dataclasses
import os
import zipfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcp_core.data.datasets import DATASETS, DataError, load
from dcp_core.data.folders import SUFFIXES, some_of
from dcp_core.data.images import MAX_BYTES, ImageError, read_image
from dcp_core.data.tensors import to_tensor
from dcp_core.files import open_regular
from dcp_core.given.hub import Place, fetch_pictures, place
from dcp_core.given.parquet import read_parquet
from dcp_core.making.progress import Progress

MOST = 10_000  # largest number of pictures
MOST_MEMORY = 2**30  # bytes of all of them together at the network's size
MOST_UNPACKED = 4 * 2**30  # bytes of all files in an .npz file or archive
MOST_FILES = 100_000
FEW = 10
ARRAYS = (("images", "labels"), ("x_test", "y_test"))  # names in an .npz file
REPORT = 100  # pictures between two reports


@dataclass(frozen=True)
class LabelledPictures:
    """Labelled pictures that are not decoded or resized yet, in random order.

    Args:
        items: paths or bytes of files, or arrays uint8 (H, W, 3).
        labels: numbers of their classes, (N,).
        classes: the names of the classes of the data, in the order of the labels.
        named: whether these are names that somebody gave, and not numbers.
        side: side of the pictures if they are square and all equal, else None.
        origin: where they were downloaded, with the commit; None if they were here.
    """

    items: Sequence[Path | bytes | np.ndarray]
    labels: Tensor
    classes: tuple[str, ...]
    named: bool
    side: int | None
    origin: str | None = None

    def read(
        self, size: int, crop: float, most: int = MOST
    ) -> Generator[Progress, None, tuple[Tensor, Tensor, list[str]]]:
        """Decode pictures, cut out the centre, and resize.

        Args:
            size: side in pixels.
            crop: share of the centre square's side that is kept.
            most: number of pictures to read; fewer are read if they would take more than `MOST_MEMORY`.

        Returns:
            uint8 (N, 3, size, size), labels (N,), and a sentence for each picture that cannot be read.

        Raises:
            DataError: if no picture can be read.
        """
        count = min(len(self.items), most, max(FEW, MOST_MEMORY // (3 * size * size)))
        pictures = torch.empty(count, 3, size, size, dtype=torch.uint8)
        kept: list[int] = []
        problems: list[str] = []
        for number, item in enumerate(self.items[:count]):
            if number % REPORT == 0:
                yield Progress("reading the test pictures", number / count)
            try:
                image = Image.fromarray(item) if isinstance(item, np.ndarray) else read_image(item)
            except ImageError as error:
                problems.append(f"{item if isinstance(item, Path) else 'a picture'}: {error}")
                continue
            pictures[len(kept)] = (to_tensor(_centre(image, crop), size) * 255).round()
            kept.append(number)
        if not kept:
            raise DataError(f"none of the {count} test pictures can be read; {problems[0] if problems else ''}")
        return pictures[: len(kept)], self.labels[kept], problems


def unreadable(problems: Sequence[str]) -> list[str]:
    """A sentence on the pictures that `LabelledPictures.read` left out, or none."""
    if not problems:
        return []
    return [f"pictures that cannot be read and were left out: {len(problems):,}. {some_of(problems)}"]


def find_pictures(where: str, seed: int = 0) -> LabelledPictures:
    """Find labelled test pictures.

    Args:
        where: a folder with one folder for each class (below `test/` if there is one); an `.npz` file with the arrays
            `images`, uint8 (N, H, W, 3), and `labels` (N,), optionally `classes`; the name of a data set; or
            `hf-dataset:OWNER/NAME`, see `hub.py`.
        seed: seed of the random order.

    Raises:
        DataError: if there are none, or the arrays are not as described.
        HubError: if a data set cannot be downloaded from the Hub.
    """
    path = Path(where).expanduser()
    if (there := place(where)) is not None:
        made = _from_hub(there)
    elif where in DATASETS:
        found = load(where, "test")
        if found.labels is None:
            raise DataError(f"{where} has no labels: the check needs labelled test pictures")
        arrays = [each.permute(1, 2, 0).numpy() for each in found.images]
        made = LabelledPictures(arrays, found.labels, found.classes, True, found.images.shape[-1])
    elif path.is_dir():
        made = _from_folder(path)
    elif path.suffix == ".npz" and path.is_file():
        made = _from_npz(path)
    else:
        raise DataError(
            f"no test pictures '{where}': give a folder with one folder for each class, or an .npz file with the arrays "
            "images and labels"
        )
    order = torch.randperm(len(made.items), generator=torch.Generator().manual_seed(seed))
    items = [made.items[index] for index in order.tolist()]
    return dataclasses.replace(made, items=items, labels=made.labels[order])


def _from_hub(there: Place) -> LabelledPictures:
    if there.kind != "dataset":
        raise DataError(f"{there.name} is a model: give test pictures, for example hf-dataset:OWNER/NAME")
    files, origin = fetch_pictures(there)
    if files[0].suffix == ".parquet":
        items, labels, classes = read_parquet(files)
        return LabelledPictures(items, torch.tensor(labels), classes, True, None, origin)
    above = Path(os.path.commonpath(files))  # the folder of the split, or of the data set
    return dataclasses.replace(_from_folder(above), origin=origin)


def _from_folder(folder: Path) -> LabelledPictures:
    root = folder / "test" if (folder / "test").is_dir() else folder
    files = sorted(each for each in root.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
    files = [each for each in files if len(each.relative_to(root).parts) > 1]
    classes = sorted({each.relative_to(root).parts[0] for each in files})
    if all(each.isdigit() for each in classes):
        classes = sorted(classes, key=int)
    if len(classes) < 2:
        raise DataError(
            f"{root} has pictures of {len(classes)} classes: put the pictures of each class into a folder of their own"
        )
    labels = torch.tensor([classes.index(each.relative_to(root).parts[0]) for each in files])
    if all(each.isdigit() for each in classes):  # folders named by the numbers of the outputs
        labels = torch.tensor([int(each) for each in classes])[labels]
        return LabelledPictures(files, labels, tuple(map(str, range(int(labels.max()) + 1))), False, None)
    return LabelledPictures(files, labels, tuple(classes), True, None)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the pictures of a zip archive into a new folder with a folder for each class, and return it.

    The class of a picture is the folder in which it lies in the archive. Only its suffix is kept of its name.

    Raises:
        DataError: for a damaged archive, one with too many files or bytes, or pictures outside of folders.
        OSError: if the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as given:
            members = [each for each in given.infolist() if _is_picture(each)]
            if len(members) > MOST_FILES or sum(each.file_size for each in members) > MOST_UNPACKED:
                raise DataError(
                    f"this archive has more than {MOST_FILES:,} pictures, or more than {MOST_UNPACKED / 2**30:g} GiB: give "
                    "fewer test pictures"
                )
            for number, member in enumerate(members):
                path = PurePosixPath(member.filename)
                kind = path.parent.name
                if not kind or kind == "..":
                    raise DataError(
                        f"{member.filename} is not in a folder: put it into a folder with the name of its class"
                    )
                target = folder / kind / f"{number}{path.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(given.read(member) if member.file_size <= MAX_BYTES else b"")
    except (DataError, OSError):
        raise
    except Exception as error:  # a damaged zip raises many types of error
        raise DataError(f"this is not a zip archive, or it is damaged: create it again ({error})") from error
    if not members:
        raise DataError(
            "this archive contains no pictures: put a folder with JPEG or PNG files for each class into it"
        )
    return folder


def _is_picture(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    return not member.is_dir() and not hidden and path.suffix.lower() in SUFFIXES


def _from_npz(path: Path) -> LabelledPictures:
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            if sum(each.file_size for each in archive.infolist()) > MOST_UNPACKED:
                raise DataError(f"{path} unpacks to more than {MOST_UNPACKED / 2**30:g} GiB: give fewer pictures")
        with open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            names = next((pair for pair in ARRAYS if set(pair) <= set(file.files)), None)
            if names is None:
                raise DataError(f"{path} has the arrays {', '.join(file.files)}, but images and labels are needed")
            images, labels = file[names[0]], file[names[1]]
            classes = tuple(map(str, file["classes"])) if "classes" in file.files else ()
    except DataError:
        raise
    except Exception as error:  # a damaged zip raises many types of error
        raise DataError(f"{path} is not a readable .npz file of plain arrays ({error})") from error
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim == 3:  # grey pictures
        images = np.repeat(images[..., None], 3, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise DataError(f"{path}: {names[0]} must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"{path}: {names[1]} must be {len(images)} whole numbers from 0, not {labels.dtype} {labels.shape}"
        )
    count = int(labels.max()) + 1
    if classes and len(classes) < count:
        raise DataError(f"{path}: the largest label is {count - 1}, but there are only {len(classes)} class names")
    side = images.shape[1] if images.shape[1] == images.shape[2] else None
    numbered = classes or tuple(map(str, range(count)))
    return LabelledPictures(list(images), torch.from_numpy(labels.astype(np.int64)), numbered, bool(classes), side)


def _centre(image: Image.Image, crop: float) -> Image.Image:
    """The centre square, with this share of its side."""
    if crop == 1:
        return image  # `to_tensor` takes the centre square
    side = max(1, round(crop * min(image.size)))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
