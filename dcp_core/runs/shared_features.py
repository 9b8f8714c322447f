"""Store the pretrained features of pictures on disk, so that several runs with a pretrained clone compute them only once.

Files are in `runs/.shared/features`. Their names begin with a hash of the pretrained weights' name and of all pictures of a
set (a pool or a test set). Each file has the features of some pictures of the set and is never changed. Runs that work at
the same time wait for each other, so that no features are computed twice.
"""

import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from dcp_core.files import write_atomic
from dcp_core.models.pretrained import FEATURES, FeatureLookup, weights_file
from dcp_core.runs.folder import shared
from dcp_core.runs.locks import holding
from dcp_core.runs.shared_answers import RowCache, stored_rows

MOST_BYTES = 1_000_000_000  # all files together, 400,000 pictures; above it, the oldest files are deleted


def lookup(*sets: Tensor) -> FeatureLookup:
    """A lookup that computes the features of the pictures in these sets, uint8 (N, 3, H, W), only once, and stores them.

    Features of other pictures are computed at each call.

    Raises:
        MissingExtra: if the extra `pretrained` is not installed.
    """
    found: FeatureLookup = _computed
    for images in sets:
        found = _chained(SharedFeatures(images), found)
    return found


def _computed(pixels: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    return compute(torch.arange(len(pixels), device=pixels.device))


def _chained(first: "SharedFeatures", then: FeatureLookup) -> FeatureLookup:
    # A function, so that a copy of a clone shares the stored features.
    return lambda pixels, compute: first(
        pixels, compute, lambda which: then(pixels[which], lambda some: compute(which[some]))
    )


class SharedFeatures:
    """The features of one set of pictures, in memory and on disk, in half precision."""

    def __init__(self, images: Tensor) -> None:
        """Take uint8 pictures (N, 3, H, W); their features are read when they are first needed."""
        about = hashlib.sha256(weights_file().name.encode() + images.numpy().tobytes())
        self.name = about.hexdigest()[:20]
        self.rows = torch.zeros(len(images), FEATURES, dtype=torch.float16)
        self.known = torch.zeros(len(images), dtype=torch.bool)
        self.pictures = RowCache(images, torch.arange(len(images)), self.rows)
        self.files: set[Path] = set()

    def __call__(
        self, pixels: Tensor, compute: Callable[[Tensor], Tensor], others: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Features (N, 1280) of pixels (N, 3, H, W) in [0, 1], float32 on the device of the pixels.

        Args:
            compute: gets the indices of pictures of this set whose features are not stored.
            others: gets the indices of pictures that are not in this set.
        """
        place = torch.tensor([-1 if n is None else n for n in self.pictures.find(pixels)])
        inside, at = place >= 0, place.clamp_min(0)
        if not bool(self.known[at[inside]].all()):
            with holding(shared() / "features" / f".{self.name}.lock", wait=True):
                self._read()
                missing = (inside & ~self.known[at]).nonzero()[:, 0]
                if len(missing):
                    self._store(place[missing], compute(missing.to(pixels.device)).half().cpu())
        found = self.rows[at].to(pixels.device).float()
        outside = (~inside).nonzero()[:, 0].to(pixels.device)
        if len(outside):
            found[outside] = others(outside).half().float()
        return found

    def _read(self) -> None:
        """Read the files that this or another run has written since the last call."""
        for path in sorted(set((shared() / "features").glob(f"{self.name}-*.safetensors")) - self.files):
            self._take(*stored_rows(path))
            self.files.add(path)

    def _store(self, indices: Tensor, rows: Tensor) -> None:
        self._take(indices, rows)
        path = shared() / "features" / f"{self.name}-{uuid.uuid4().hex}.safetensors"
        content = save({"indices": indices, "rows": rows.contiguous()})
        _make_room(len(content))
        write_atomic(path, lambda file: file.write(content))
        self.files.add(path)

    def _take(self, indices: Tensor, rows: Tensor) -> None:
        if len(indices):
            self.rows[indices], self.known[indices] = rows, True


def _make_room(size: int) -> None:
    """Delete the oldest files until `size` more bytes fit into `MOST_BYTES`."""
    files = []
    for path in (shared() / "features").glob("*.safetensors"):
        with suppress(FileNotFoundError):  # another run has just deleted it
            about = path.stat()
            files.append((about.st_mtime, about.st_size, path))
    used = size + sum(length for _, length, _ in files)
    for _, length, path in sorted(files):
        if used <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        used -= length
