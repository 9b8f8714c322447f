"""Cache a victim's clean answers to a query pool, so that runs which query the same pictures compute them once.

The cache is between the oracle and the model: the oracle still counts and defends every answer. Cache files are in
`runs/.shared`; their names are hashes of the victim's weights and of the pictures. Answers to other pictures are computed
as usual. What GRAD^2, MAD and AM compute from the pictures (their `guide`) is cached in the same way.
"""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from dcp_core.data.datasets import ImageSet, load
from dcp_core.defenses.base import Defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.files import read_regular, write_atomic
from dcp_core.models import auxiliary, zoo
from dcp_core.models.inference import predict, resized, to_pixels
from dcp_core.runs.folder import shared
from dcp_core.runs.spec import RunSpec

ROWS, ROWS_OF_SERVICE = 128, 8  # pictures computed between two updates of the progress bar
SAVE_EVERY = 10.0  # seconds after which computed answers are stored


class RowCache:
    """Cached rows (n, K), one for each of n pictures of a pool, found by the content of the picture."""

    def __init__(self, images: Tensor, indices: Tensor, rows: Tensor, side: int | None = None) -> None:
        """Store rows (n, K) for the pictures at `indices` (n,) of a pool, uint8 (N, 3, H, W).

        Args:
            side: to which they are resized before they are looked up; by default they are not resized.
        """
        self.rows = rows
        seen = (_seen(images[i][None], side)[0] for i in indices.tolist())
        self.place = {_digest(picture): n for n, picture in enumerate(seen)}

    def find(self, pixels: Tensor) -> list[int | None]:
        """Index of each picture's row, None for a picture that is not cached. Pixels (N, 3, H, W) in [0, 1]."""
        return [self.place.get(_digest(picture)) for picture in pixels.detach().cpu()]

    def __call__(self, pixels: Tensor, compute: Callable[[Tensor], Tensor | None]) -> Tensor:
        """Rows (N, K) of a batch. `compute` gets the indices of pictures that are not cached and returns their rows."""
        found = self.find(pixels)
        missing = torch.tensor([n for n, place in enumerate(found) if place is None], dtype=torch.int64)
        rows = self.rows[torch.tensor([place or 0 for place in found])].to(pixels.device)
        if len(missing):
            computed = compute(missing.to(pixels.device))
            assert computed is not None
            rows[missing] = computed.to(rows)
        return rows


class CachedVictim(nn.Module):
    """A victim that takes cached logits instead of computing them."""

    def __init__(self, model: nn.Module, cache: RowCache) -> None:
        super().__init__()
        self.model, self.cache = model, cache

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.cache(pixels, lambda which: self.model(pixels[which]))


def cached_victim(victim: zoo.Victim, pool: ImageSet | None) -> nn.Module:
    """The victim's model, with the cached answers for this pool if there are any."""
    if victim.card.source == zoo.SERVICE:  # it keeps its answers itself
        return victim.model
    side = victim.card.size
    cache = None if pool is None or not victim.card.sha256 else _read(_path(victim.card, pool), pool, side)
    return victim.model if cache is None else CachedVictim(victim.model, cache)


def cached_guides(defense: Defense, victim: zoo.Victim, pool: ImageSet | None) -> RowCache | None:
    """The cached guides of a defense for this pool, None if there are none."""
    if pool is None or not _cacheable(defense) or not victim.card.sha256:
        return None
    return _read(_path(victim.card, pool, defense), pool, victim.card.size)


def known_answers(victim: str, pool: ImageSet, indices: Tensor) -> Tensor:
    """The stored clean logits (n, K) of a victim for pictures of a pool, in the order of `indices`. No query is sent.

    Pictures without a stored answer are left out.
    """
    at, rows = stored_rows(_path(zoo.card(victim), pool))
    place = {index: n for n, index in enumerate(at.tolist())}
    return rows[[place[index] for index in indices.tolist() if index in place]]


def share(specs: Iterable[RunSpec], until: float = math.inf) -> None:
    """Compute and cache the answers to pictures that several of these runs query, with progress on standard error.

    If only one run uses a victim with a pool, nothing is computed for it in advance.

    Args:
        until: time of `time.monotonic()` at which it stops. Answers that were computed until then are kept.

    Raises:
        ValueError: if a victim, pool or second network is missing.
    """
    wanted: dict[tuple[str, str, Defense | None], list[RunSpec]] = {}
    for spec in specs:
        if spec.pool is None or spec.make_attack().will_ask(1, spec.budget, spec.seed) is None:
            continue
        wanted.setdefault((spec.victim, spec.pool, None), []).append(spec)
        guarded = spec.make_defense()
        if isinstance(guarded, ModelBased) and _cacheable(guarded):
            wanted.setdefault((spec.victim, spec.pool, _same_guides(guarded)), []).append(spec)
    for (name, source, defense), runs in wanted.items():
        card = zoo.card(name) if not name.startswith(zoo.TORCHVISION) else None
        if card is None or len(runs) < 2:
            continue
        pool = load(source, "train", size=card.size)
        _compute_missing(card, pool, defense, _asked(runs, len(pool)), until)


def _asked(runs: list[RunSpec], count: int) -> Tensor:
    """Indices of the pictures that the runs will send, of a pool with `count` pictures."""
    parts = [spec.make_attack().will_ask(count, spec.budget, spec.seed) for spec in runs]
    return torch.cat([part for part in parts if part is not None]).unique()


def _compute_missing(
    card: zoo.Card, pool: ImageSet, defense: Defense | None, indices: Tensor, until: float
) -> None:
    path = _path(card, pool, defense)
    known, rows = stored_rows(path)
    missing = torch.tensor(sorted(set(indices.tolist()) - set(known.tolist())), dtype=torch.int64)
    if not len(missing):
        return
    model = zoo.load(card.name).model
    loaded = auxiliary.arm(defense, card.name) if defense is not None else None
    asked = [known] if len(known) else []
    parts = [rows] if len(known) else []

    def keep() -> None:
        if parts:
            content = save({"indices": torch.cat(asked), "rows": torch.cat(parts)})
            write_atomic(path, lambda file: file.write(content))

    last = time.monotonic()
    words = f"answers of {card.name} to {pool.name}, for all runs"
    bar = tqdm(total=len(missing), desc=words, unit=" pictures")
    try:
        for which in missing.split(ROWS_OF_SERVICE if card.source == zoo.SERVICE else ROWS):
            if time.monotonic() > until:
                break
            pixels = _seen(pool.images[which], card.size)
            part = predict(model, pixels)
            if loaded is not None:
                guide = loaded.guide(part.softmax(-1), pixels)
                assert guide is not None
                part = guide
            asked.append(which)
            parts.append(part)
            bar.update(len(which))
            if time.monotonic() - last > SAVE_EVERY:
                keep()
                last = time.monotonic()
    finally:  # an answer that has arrived must not be requested again after Ctrl-C
        bar.close()
        keep()


def _cacheable(defense: Defense) -> bool:
    return isinstance(defense, ModelBased) and defense.needs is not None and not defense.randomised


def _same_guides(defense: ModelBased) -> Defense:
    """The defense with only the parameters on which its guides depend: equal for all settings that share guides."""
    guiding = {name: getattr(defense, name) for name, each in defense.parameters().items() if each.guides}
    return dataclasses.replace(type(defense)(), **guiding)


def _path(card: zoo.Card, pool: ImageSet, defense: Defense | None = None) -> Path:
    about = hashlib.sha256(card.sha256.encode() + pool.images.numpy().tobytes())
    if isinstance(defense, ModelBased):
        second = auxiliary.card(card.name, defense.needs) if defense.needs else None
        about.update(repr((_same_guides(defense), defense.needs, second.sha256 if second else "")).encode())
    return shared() / f"{about.hexdigest()[:20]}.safetensors"


def stored_rows(path: Path) -> tuple[Tensor, Tensor]:
    """Indices and rows of a cache file; empty if it is missing or damaged."""
    try:
        stored = load_bytes(read_regular(path))
        return stored["indices"], stored["rows"]
    except (OSError, SafetensorError, KeyError):
        return torch.empty(0, dtype=torch.int64), torch.empty(0, 0)


def _read(path: Path, pool: ImageSet, side: int) -> RowCache | None:
    indices, rows = stored_rows(path)
    return RowCache(pool.images, indices, rows, side) if len(indices) else None


def _seen(images: Tensor, side: int | None) -> Tensor:
    """Pictures, uint8 (N, 3, H, W), as the victim sees them: pixels, resized if `side` is given, as by `Oracle`."""
    return to_pixels(images) if side is None else resized(to_pixels(images), side)


def _digest(picture: Tensor) -> bytes:
    return hashlib.blake2b(picture.contiguous().numpy().tobytes(), digest_size=16).digest()
