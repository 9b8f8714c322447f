"""Create each named data set: draw it, or download it from its published source through torchvision.

Every function takes a scratch folder and returns the arrays of the data set's `.npz` file. Functions that draw also take
`splits`, which to draw, and `follow`, see `synthetic.signs`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dcp_core.data import synthetic
from dcp_core.data.synthetic import ProgressWrapper
from dcp_core.vision import torchvision

Arrays = dict[str, np.ndarray]

BOTH = ("train", "test")
# Every split has its own seed, so that no picture is in two splits.
SIGNS_TRAIN, SIGNS_TEST, SIGNS_POOL, TEXTURES_POOL = 1, 2, 3, 4
CUB_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
CUB_MD5 = "97eceeb196236b17998738112f37df78"
GTSRB_CLASSES = (
    "speed limit 20|speed limit 30|speed limit 50|speed limit 60|speed limit 70|speed limit 80|"
    "end of speed limit 80|speed limit 100|speed limit 120|no passing|no passing for trucks|"
    "right of way at crossing|priority road|yield|stop|no vehicles|no trucks|no entry|general caution|"
    "curve left|curve right|double curve|bumpy road|slippery road|road narrows right|road work|"
    "traffic signals|pedestrians|children crossing|bicycles crossing|ice or snow|wild animals|"
    "end of all limits|turn right ahead|turn left ahead|ahead only|straight or right|straight or left|"
    "keep right|keep left|roundabout|end of no passing|end of no passing for trucks"
).split("|")


def signs(scratch: Path, splits: tuple[str, ...] = BOTH, follow: ProgressWrapper = iter) -> Arrays:
    """The embedded data set: 30,000 training and 10,000 test pictures of 16 road signs, 32x32."""
    arrays: Arrays = {"classes": np.array(synthetic.SIGN_CLASSES)}
    for split, count, seed in (("train", 30_000, SIGNS_TRAIN), ("test", 10_000, SIGNS_TEST)):
        if split in splits:
            x, y = synthetic.signs(count, seed, follow=follow)
            arrays |= {f"x_{split}": _nhwc(x.numpy()), f"y_{split}": y.numpy()}
    return arrays


def signs_pool(
    scratch: Path, splits: tuple[str, ...] = BOTH, follow: ProgressWrapper = iter, count: int = 30_000
) -> Arrays:
    """Query pool of a knowledgeable thief: `count` other pictures of the same 16 signs, 32x32, without labels."""
    if "train" not in splits:
        return {}
    return {"x_train": _nhwc(synthetic.signs(count, SIGNS_POOL, follow=follow)[0].numpy())}


def signs_pool_small(scratch: Path, splits: tuple[str, ...] = BOTH, follow: ProgressWrapper = iter) -> Arrays:
    """The first 4,096 pictures of `signs_pool`, which take a few seconds to draw."""
    return signs_pool(scratch, splits, follow, 4096)


def textures(scratch: Path, splits: tuple[str, ...] = BOTH, follow: ProgressWrapper = iter) -> Arrays:
    """Query pool of a thief with limited knowledge: 30,000 pictures of coloured shapes without a sign, 32x32."""
    if "train" not in splits:
        return {}
    return {"x_train": _nhwc(synthetic.textures(30_000, TEXTURES_POOL, follow).numpy())}


def cifar10(scratch: Path) -> Arrays:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 pictures, 32x32, 10 classes."""
    return _cifar(_datasets().CIFAR10, scratch)


def cifar100(scratch: Path) -> Arrays:
    """CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 pictures, 32x32, 100 fine classes."""
    return _cifar(_datasets().CIFAR100, scratch)


def _cifar(kind: Any, scratch: Path) -> Arrays:
    train, test = (kind(scratch, train=train, download=True) for train in (True, False))
    return _both(train, test, 32, train.classes)


def svhn(scratch: Path) -> Arrays:
    """SVHN, cropped digits (Netzer et al., 2011): 73,257 + 26,032 pictures, 32x32, 10 classes."""
    train, test = (_datasets().SVHN(scratch, split, download=True) for split in ("train", "test"))
    return _both(train, test, 32, map(str, range(10)))


def gtsrb(scratch: Path) -> Arrays:
    """GTSRB (Stallkamp et al., 2011): traffic signs of 43 classes; the whole picture is resized to 32x32."""
    train, test = (_datasets().GTSRB(scratch, split, download=True) for split in ("train", "test"))
    return _both(train, test, 32, GTSRB_CLASSES)


def voc(scratch: Path) -> Arrays:
    """Pascal VOC 2012 `train` (5,717 pictures) as a query pool, centre-cropped to 224x224."""
    shown = ((image, None) for image, _ in _datasets().VOCDetection(scratch, "2012", "train", download=True))
    x, _ = to_arrays(shown, 5717, 224, crop=True)
    return {"x_train": x}


def cub200(scratch: Path) -> Arrays:
    """CUB-200-2011 (Wah et al., 2011): 5,994 + 5,794 pictures of birds, centre-cropped to 224x224."""
    folder = scratch / "CUB_200_2011"
    if not folder.exists():
        utils = _datasets().utils
        utils.download_and_extract_archive(CUB_URL, str(scratch), md5=CUB_MD5)
    return read_cub200(folder)


def read_cub200(folder: Path) -> Arrays:
    """Read CUB-200-2011 from its published files: `images.txt`, `image_class_labels.txt`, ...

    Raises:
        OSError: when a file is missing.
    """

    def table(name: str) -> dict[str, str]:
        lines = (folder / name).read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    paths, labels, in_train = (
        table("images.txt"),
        table("image_class_labels.txt"),
        table("train_test_split.txt"),
    )
    classes = [name.split(".", 1)[1].replace("_", " ") for name in table("classes.txt").values()]
    arrays: Arrays = {"classes": np.array(classes)}
    for split, flag in (("train", "1"), ("test", "0")):
        chosen = [key for key in paths if in_train[key] == flag]
        items = ((Image.open(folder / "images" / paths[key]), int(labels[key]) - 1) for key in chosen)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = to_arrays(items, len(chosen), 224, crop=True)
    return arrays


def to_arrays(
    items: Iterable[tuple[Image.Image, int | None]], count: int, size: int, *, crop: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Decode (picture, label) pairs to pictures uint8 (N, size, size, 3) and labels int64 (N,), one at a time.

    Args:
        count: N, the number of pairs.
        crop: crop the largest centred square before resizing, instead of resizing the whole picture.
    """
    x, y = np.empty((count, size, size, 3), np.uint8), np.zeros(count, np.int64)
    for index, (image, label) in enumerate(tqdm(items, total=count, desc="reading pictures", unit="")):
        if crop:
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        x[index], y[index] = np.asarray(resized), label or 0
    return x, y


def _both(train: Any, test: Any, size: int, classes: Iterable[str]) -> Arrays:
    arrays: Arrays = {"classes": np.array(list(classes))}
    for split, dataset in (("train", train), ("test", test)):
        arrays[f"x_{split}"], arrays[f"y_{split}"] = to_arrays(dataset, len(dataset), size)
    return arrays


def _nhwc(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _datasets() -> Any:
    torchvision()
    import torchvision.datasets as datasets

    return datasets
