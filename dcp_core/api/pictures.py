"""This API's own form: a request is a picture or a zip archive of pictures, an answer has all classes of each."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from dcp_core.data.archives import read_archive
from dcp_core.data.images import read_image, square
from dcp_core.data.structure import ImageError, Work

AT_ONCE = 100  # largest number of pictures in one request
UNPACKED = 64 * 2**20  # largest size of an archive's pictures, in bytes
ZIP = b"PK\x03\x04"


def read(body: bytes, size: int, options: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Read a request. All forms have such a function; it runs in a decoder's process.

    Args:
        size: side of the pictures that the victim takes.
        options: what the form needs from the request's head.

    Returns:
        what the answer needs, as JSON, and pixels (N, 3, size, size): uint8, or float32 in [0, 1].

    Raises:
        ImageError: if the request is not of this form, or a picture cannot be read.
    """
    found = dict(pictures(body, size))
    return {"pictures": list(found)} if body.startswith(ZIP) else {}, np.stack(list(found.values()))


def pictures(body: bytes, size: int, work: Work | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels, uint8 (3, size, size), of each picture in a request; the name of a single picture is empty.

    Each picture is resized before the next is decoded, because a zip of small files may contain gigabytes of pixels.

    Args:
        work: what may be done for all pictures together, by default `MAX_WORK`.

    Raises:
        ImageError: for the first picture that cannot be read, or if all together take too much work.
    """
    work = work or Work()
    if not body.startswith(ZIP):
        yield "", square(read_image(body, work=work), size)
        return
    found = read_archive(io.BytesIO(body), max_files=AT_ONCE, max_total_bytes=UNPACKED, work=work)
    for name, picture in found:
        if isinstance(picture, ImageError):
            raise ImageError(f"{name}: {picture}")
        yield name, square(picture, size)


def predictions(posteriors: np.ndarray, classes: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """Posteriors (N, K) as this API sends them: for each picture the classes with probabilities, the largest first."""
    return [
        [{"class": classes[k], "probability": p} for k, p in ranked] for ranked in map(largest_first, posteriors)
    ]


def largest_first(posterior: np.ndarray) -> list[tuple[int, float]]:
    """The classes (0 to K - 1) of a posterior (K,) with their probabilities, the largest first."""
    order = np.argsort(-posterior, kind="stable")
    return list(zip(order.tolist(), posterior[order].tolist(), strict=True))
