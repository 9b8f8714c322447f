"""Draw the embedded data sets, so that everything works without a download.

- `signs`: the data set of the embedded victim. Sixteen road signs in random poses, light and weather. Most are easy to
  classify. Distance, blur, darkness, haze and occlusion follow long-tailed distributions, so that some are hard and
  the victim's posteriors vary as they do on photographs.
- `textures`: a query pool for a thief who knows nothing about road signs. Overlapping coloured shapes.

Pictures are drawn in blocks of `BLOCK`, each from its own random stream `(seed, kind, block)`. Picture i of a seed is
therefore bit for bit the same, however many pictures are drawn. On another machine the random numbers are the same, but
rounding can change a pixel by one level.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcp_core.data.glyphs import SIGNS, templates

SIGN_CLASSES: tuple[str, ...] = tuple(sign.name for sign in SIGNS)

SIZE = 32
BLOCK = 256  # a multiple of the number of classes, so that every block has each class equally often
_SIGNS, _TEXTURES = 0, 1  # the kind in a random stream
ProgressWrapper = Callable[[list], Iterable]  # yields the items of a list and shows the progress, as tqdm does


def signs(n: int, seed: int, start: int = 0, follow: ProgressWrapper = iter) -> tuple[Tensor, Tensor]:
    """Draw `n` road signs of a seed, from picture `start` on, and their classes.

    Args:
        follow: wraps the list of blocks to show the progress; see `ProgressWrapper`.

    Returns:
        pictures uint8 (n, 3, 32, 32), and labels int64 (n,), indices of `SIGN_CLASSES`. Each 16 successive pictures
        that start at a multiple of 16 have every class once, in random order.

    Raises:
        ValueError: if `n`, `seed` or `start` is negative.
    """
    blocks = [_sign_block(rng) for rng in follow(_streams(n, seed, _SIGNS, start))]
    if not blocks:
        return torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    first = start % BLOCK
    pictures, labels = (torch.cat(parts)[first : first + n].clone() for parts in zip(*blocks, strict=True))
    return pictures, labels


def textures(n: int, seed: int, follow: ProgressWrapper = iter) -> Tensor:
    """Draw the first `n` pictures of coloured shapes of a seed, uint8 (n, 3, 32, 32).

    Args:
        follow: as in `signs`.

    Raises:
        ValueError: if `n` or `seed` is negative.
    """
    blocks = [_texture_block(rng) for rng in follow(_streams(n, seed, _TEXTURES))]
    return torch.cat([torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8), *blocks])[:n].clone()


class _BlockRng:
    """Random numbers for one block of pictures. Methods return (BLOCK, channels, 1, 1), which broadcasts to pictures."""

    def __init__(self, *stream: int) -> None:
        self.generator = np.random.default_rng(stream)

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        drawn = self.generator.random((BLOCK, channels, 1, 1), dtype=np.float32)
        return torch.from_numpy(drawn) * (high - low) + low

    def sign(self, spread: float, channels: int = 1) -> Tensor:
        return self.uniform(-spread, spread, channels)

    def tail(self, power: float) -> Tensor:
        """Values in [0, 1], mostly near 0: the larger `power`, the rarer are large values."""
        return self.uniform(0, 1) ** power

    def chance(self, share: float) -> Tensor:
        """1.0 with probability `share`, else 0.0."""
        return (self.uniform(0, 1) < share).float()

    def noise(self) -> Tensor:
        """Standard normal, (BLOCK, 3, SIZE, SIZE)."""
        return torch.from_numpy(self.generator.standard_normal((BLOCK, 3, SIZE, SIZE), dtype=np.float32))


def _streams(n: int, seed: int, kind: int, start: int = 0) -> list[_BlockRng]:
    """The random streams of the blocks that contain pictures `start` to `start + n`."""
    if n < 0 or seed < 0 or start < 0:
        raise ValueError(f"n, seed and start must be 0 or more, got n={n}, seed={seed}, start={start}")
    return (
        [_BlockRng(seed, kind, block) for block in range(start // BLOCK, math.ceil((start + n) / BLOCK))]
        if n
        else []
    )


def _pixels(count: int = SIZE) -> tuple[Tensor, Tensor]:
    """Coordinates of pixel centres in [-1, 1]: x (1, 1, 1, count) and y (1, 1, count, 1)."""
    line = (torch.arange(count) + 0.5) * 2 / count - 1
    return line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)


def _shape(
    canvas: Tensor,
    rng: _BlockRng,
    size: tuple[float, float],
    first: Tensor,
    second: Tensor,
    opacity: Tensor,
    within: float = 1.1,
) -> Tensor:
    """Paint one random shape on every picture of `canvas` (BLOCK, 3, SIZE, SIZE).

    The shape is a polygon of 3 to 6 corners or a disc, stretched and rotated, with its centre within +-`within`. It is
    filled with a pattern (gradient, stripes, rings or checks) between the colours `first` and `second`, both
    (BLOCK, 3, 1, 1).
    """
    x, y = _pixels()
    x, y = x - rng.sign(within), y - rng.sign(within)
    turn = rng.uniform(0, 2 * math.pi)
    radius = size[0] * (size[1] / size[0]) ** rng.uniform(0, 1)
    stretch = rng.uniform(0.45, 1)
    u = (x * turn.cos() + y * turn.sin()) / radius
    v = (y * turn.cos() - x * turn.sin()) / (radius * stretch)

    corners = torch.floor(rng.uniform(3, 8))  # 7 stands for a disc
    sector = 2 * math.pi / torch.where(corners > 6, 60.0, corners)
    distance, angle = torch.hypot(u, v), torch.atan2(v, u)
    edge = distance * torch.cos(angle - sector * torch.round(angle / sector)) - 0.8
    cover = (0.5 - edge * radius * stretch * SIZE / 2).clamp(0, 1) * opacity

    pattern, phase = rng.uniform(0, 1), rng.uniform(0, 2 * math.pi)
    waves = torch.where(rng.chance(0.6) > 0, rng.uniform(0.3, 1.2), rng.uniform(2, 5) * (0.6 + radius))
    wave = torch.sin(waves * torch.where(pattern < 0.2, distance, u) * 2 + phase)
    wave = wave * torch.where(pattern > 0.8, torch.sin(waves * v * 2 + phase), torch.ones(()))
    share = (0.5 + wave * rng.uniform(0.5, 2)).clamp(0, 1)
    return canvas + cover * (first + (second - first) * share - canvas)


def _texture_block(rng: _BlockRng) -> Tensor:
    canvas = torch.zeros(BLOCK, 3, SIZE, SIZE)
    shapes = rng.uniform(2, 10)
    for i in range(10):
        first, second = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
        size = (6.0, 6.0) if i == 0 else (0.15, 1.2)  # the first shape covers the whole picture
        opacity = (shapes > i).float() * torch.where(rng.chance(0.7) > 0, torch.ones(()), rng.uniform(0.3, 1))
        canvas = _shape(canvas, rng, size, first, second, opacity)
    canvas = _blur(canvas, rng.tail(4) * 1.5, rng.tail(4) * 1.5)
    return _develop(canvas + rng.noise() * rng.uniform(0, 0.03))


def _sign_block(rng: _BlockRng) -> tuple[Tensor, Tensor]:
    classes = len(SIGNS)
    labels = torch.from_numpy(
        np.concatenate([rng.generator.permutation(classes) for _ in range(BLOCK // classes)])
    )
    scene = _scenery(rng)
    half = 0.9 - 0.67 * rng.tail(1.15)  # half the size of the board; 1 fills the picture
    centre_x, centre_y = (rng.sign(1) * (1.08 - half).clamp(0.06, 0.5) for _ in range(2))
    scene = _mount(scene, rng, labels, half, centre_x, centre_y)
    scene = _cover(scene, rng)
    return _photograph(scene, rng), labels


def _scenery(rng: _BlockRng) -> Tensor:
    """Draw the background: sky, ground and shapes in muted colours."""
    _, y = _pixels()
    above = rng.uniform(0.35, 0.95) + rng.sign(0.12, 3)
    below = rng.uniform(0.1, 0.6) + rng.sign(0.12, 3)
    horizon, sharpness = rng.sign(0.8), 1 + 12 * rng.uniform(0, 1)
    scene = above + (below - above) * torch.sigmoid((y - horizon) * sharpness)
    scene = scene.expand(BLOCK, 3, SIZE, SIZE)
    for i in range(5):
        vivid = 0.12 + 0.4 * rng.chance(0.25)
        first = rng.uniform(0.05, 0.9) + rng.sign(1, 3) * vivid
        second = first + rng.sign(0.4) + rng.sign(0.1, 3)
        scene = _shape(scene, rng, (0.2, 1.1), first, second, rng.chance(0.75 if i < 3 else 0.45))
    return scene.clamp(0, 1)


def _mount(scene: Tensor, rng: _BlockRng, labels: Tensor, half: Tensor, cx: Tensor, cy: Tensor) -> Tensor:
    """Draw the sign and its pole on every picture: rotated, sheared, in perspective, with faded colours."""
    x, y = _pixels(2 * SIZE)  # drawn at twice the size and averaged, for smooth edges
    turn = rng.sign(0.16) + rng.sign(0.45) * rng.tail(2)
    lean, aspect = rng.sign(0.18), 1 - 0.4 * rng.tail(2)
    x, y = (x - cx) / half, (y - cy) / half
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    u = (u + lean * v) / aspect
    depth = (1 + rng.sign(0.22) * u + rng.sign(0.14) * v).clamp(min=0.3)
    u, v = u / depth, v / depth

    # u and v are in [-1, 1] within one cell of the atlas; grid_sample expects them relative to all 2 * 16 cells.
    cell = labels.view(-1, 1, 1, 1) + len(SIGNS) * (half < 0.5)
    v_atlas = (cell + 0.5 + v.clamp(-1, 1) / 2) / len(SIGNS) - 1
    grid = torch.stack([u.clamp(-1, 1).squeeze(1), v_atlas.squeeze(1)], dim=-1)
    atlas = _atlas().expand(BLOCK, -1, -1, -1)
    board = F.avg_pool2d(F.grid_sample(atlas, grid, align_corners=False), 2)

    u, v = u[..., ::2, ::2], v[..., ::2, ::2]
    pole = ((0.07 - u.abs()) * half * SIZE / 2 + 0.5).clamp(0, 1) * (v > 0) * rng.chance(0.7)
    scene = scene + pole * (rng.uniform(0.25, 0.7) - scene)
    colour, cover = board[:, :3], board[:, 3:]
    fade = 0.55 * rng.tail(6)
    colour = colour + fade * (rng.uniform(0.35, 0.75) * cover - colour)
    return scene * (1 - cover) + colour


@lru_cache(maxsize=1)
def _atlas() -> Tensor:
    """All templates one below the other, then all again at half resolution for distant signs; (1, 4, height, width).

    The borders of the templates are transparent, so coordinates outside a sign may be clamped to its border.
    """
    sharp = templates()
    coarse = F.interpolate(F.avg_pool2d(sharp, 2), scale_factor=2, mode="bilinear")
    return torch.cat([*sharp, *coarse], dim=1).unsqueeze(0)


def _cover(scene: Tensor, rng: _BlockRng) -> Tensor:
    """Draw shapes in front of some signs, like leaves, vehicles and stickers."""
    for share, reach, size in ((0.28, 1.0, (0.12, 0.4)), (0.17, 0.8, (0.3, 0.7))):
        first = rng.uniform(0.05, 0.7) + rng.sign(0.15, 3)
        second = first + rng.sign(0.25)
        scene = _shape(scene, rng, size, first.clamp(0, 1), second.clamp(0, 1), rng.chance(share), reach)
    return scene


def _photograph(scene: Tensor, rng: _BlockRng) -> Tensor:
    """Simulate the camera: light and shadow, haze, blur, exposure, sensor noise."""
    x, y = _pixels()
    turn = rng.uniform(0, 2 * math.pi)
    across = x * turn.cos() + y * turn.sin() - rng.sign(0.7)
    soft = 1 + rng.sign(0.35) * across.clamp(-1, 1)
    shadow = 1 - rng.chance(0.25) * rng.uniform(0.3, 0.65) * torch.sigmoid(across * rng.uniform(4, 30))
    scene = scene * soft * shadow * (1 + rng.sign(0.13, 3))
    scene = scene + rng.tail(6) * 0.85 * (rng.uniform(0.5, 0.95) - scene)  # haze
    scene = _blur(scene, *(0.25 + 3.0 * rng.tail(3.6) * rng.uniform(0.4, 1) for _ in range(2)))
    scene = scene * (1.15 - 1.0 * rng.tail(3.5))  # exposure
    return _develop(scene + rng.noise() * (0.006 + 0.08 * rng.tail(6)))


def _blur(pictures: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Gaussian blur with standard deviations in pixels (BLOCK, 1, 1, 1), horizontal `across` and vertical `down`."""
    reach = 5
    offsets = torch.arange(-reach, reach + 1)
    for dim, sigma in ((3, across), (2, down)):
        weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)) ** 2)  # (BLOCK, 1, 1, 11)
        weights = weights / weights.sum(dim=3, keepdim=True)
        margins = (reach, reach, 0, 0) if dim == 3 else (0, 0, reach, reach)
        padded = F.pad(pictures, margins, mode="replicate")
        pictures = torch.zeros_like(pictures)
        for i in range(len(offsets)):
            pictures.addcmul_(padded.narrow(dim, i, SIZE), weights[..., i : i + 1])
    return pictures


def _develop(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
