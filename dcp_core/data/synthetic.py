"""The embedded data sets, drawn by us, so that everything works with no download.

- `signs`: what the victim classifies. Sixteen road signs in random poses, lights and weathers. Most are
  easy to read; each kind of trouble (far away, blurred, dark, hazy, covered) has a long tail, so that some are
  not, and a victim's posteriors spread as they do on photographs.
- `textures`: what a thief queries who knows nothing of road signs. Overlapping coloured shapes.

Pictures are drawn in blocks of `BLOCK`, each from its own random stream `(seed, kind, block)`, so picture i of
a seed is the same however many are asked for, down to the bit. On another machine the random numbers are the
same, while a rounding in the last place can move a pixel by one level.
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
BLOCK = 256  # a multiple of the number of classes: every block is balanced
_SIGNS, _TEXTURES = 0, 1  # streams
Following = Callable[[list], Iterable]  # looks on while a list is worked off, as tqdm does


def signs(n: int, seed: int, start: int = 0, follow: Following = iter) -> tuple[Tensor, Tensor]:
    """`n` road signs of `seed` from number `start` on, and their classes.

    Args:
        follow: given the blocks, hands them out one by one.

    Returns:
        pictures, uint8 (n, 3, 32, 32), and labels into `SIGN_CLASSES`, int64 (n,). Every run of 16 pictures
        that starts at a multiple of 16 holds each class once, in random order.

    Raises:
        ValueError: if `n`, `seed` or `start` is negative.
    """
    blocks = [_sign_block(dice) for dice in follow(_streams(n, seed, _SIGNS, start))]
    if not blocks:
        return torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    first = start % BLOCK
    pictures, labels = (torch.cat(parts)[first : first + n].clone() for parts in zip(*blocks, strict=True))
    return pictures, labels


def textures(n: int, seed: int, follow: Following = iter) -> Tensor:
    """The first `n` pictures of `seed` that show coloured shapes and no sign, uint8 (n, 3, 32, 32).

    Args:
        follow: as for `signs`.

    Raises:
        ValueError: if `n` or `seed` is negative.
    """
    blocks = [_texture_block(dice) for dice in follow(_streams(n, seed, _TEXTURES))]
    return torch.cat([torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8), *blocks])[:n].clone()


class _Dice:
    """Random numbers for one block: each method returns (BLOCK, channels, 1, 1), ready to meet pictures."""

    def __init__(self, *stream: int) -> None:
        self.rng = np.random.default_rng(stream)

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        drawn = self.rng.random((BLOCK, channels, 1, 1), dtype=np.float32)
        return torch.from_numpy(drawn) * (high - low) + low

    def sign(self, spread: float, channels: int = 1) -> Tensor:
        return self.uniform(-spread, spread, channels)

    def tail(self, power: float) -> Tensor:
        """In [0, 1], mostly near 0: the larger `power`, the rarer the large ones."""
        return self.uniform(0, 1) ** power

    def chance(self, share: float) -> Tensor:
        """1.0 with probability `share`, else 0.0."""
        return (self.uniform(0, 1) < share).float()

    def noise(self) -> Tensor:
        """Standard normal, (BLOCK, 3, SIZE, SIZE)."""
        return torch.from_numpy(self.rng.standard_normal((BLOCK, 3, SIZE, SIZE), dtype=np.float32))


def _streams(n: int, seed: int, kind: int, start: int = 0) -> list[_Dice]:
    """The random streams of the blocks that hold pictures `start` to `start + n`."""
    if n < 0 or seed < 0 or start < 0:
        raise ValueError(f"n, seed and start must be 0 or more, got n={n}, seed={seed}, start={start}")
    return (
        [_Dice(seed, kind, block) for block in range(start // BLOCK, math.ceil((start + n) / BLOCK))] if n else []
    )


def _pixels(count: int = SIZE) -> tuple[Tensor, Tensor]:
    """Pixel centres in [-1, 1], x (1, 1, 1, count) and y (1, 1, count, 1)."""
    line = (torch.arange(count) + 0.5) * 2 / count - 1
    return line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)


def _shape(
    canvas: Tensor,
    dice: _Dice,
    size: tuple[float, float],
    first: Tensor,
    second: Tensor,
    opacity: Tensor,
    within: float = 1.1,
) -> Tensor:
    """Paint one random shape on every picture of `canvas` (BLOCK, 3, SIZE, SIZE).

    A polygon of 3 to 6 corners or a disc, stretched and turned, its centre within +-`within`; filled with a
    pattern (gradient, stripes, rings or checks) running from colour `first` to `second`, both (BLOCK, 3, 1, 1).
    """
    x, y = _pixels()
    x, y = x - dice.sign(within), y - dice.sign(within)
    turn = dice.uniform(0, 2 * math.pi)
    radius = size[0] * (size[1] / size[0]) ** dice.uniform(0, 1)
    stretch = dice.uniform(0.45, 1)
    u = (x * turn.cos() + y * turn.sin()) / radius
    v = (y * turn.cos() - x * turn.sin()) / (radius * stretch)

    corners = torch.floor(dice.uniform(3, 8))  # 7: a disc
    sector = 2 * math.pi / torch.where(corners > 6, 60.0, corners)
    distance, angle = torch.hypot(u, v), torch.atan2(v, u)
    edge = distance * torch.cos(angle - sector * torch.round(angle / sector)) - 0.8
    cover = (0.5 - edge * radius * stretch * SIZE / 2).clamp(0, 1) * opacity

    pattern, phase = dice.uniform(0, 1), dice.uniform(0, 2 * math.pi)
    waves = torch.where(dice.chance(0.6) > 0, dice.uniform(0.3, 1.2), dice.uniform(2, 5) * (0.6 + radius))
    wave = torch.sin(waves * torch.where(pattern < 0.2, distance, u) * 2 + phase)
    wave = wave * torch.where(pattern > 0.8, torch.sin(waves * v * 2 + phase), torch.ones(()))
    share = (0.5 + wave * dice.uniform(0.5, 2)).clamp(0, 1)
    return canvas + cover * (first + (second - first) * share - canvas)


def _texture_block(dice: _Dice) -> Tensor:
    canvas = torch.zeros(BLOCK, 3, SIZE, SIZE)
    shapes = dice.uniform(2, 10)
    for i in range(10):
        first, second = dice.uniform(0, 1, 3), dice.uniform(0, 1, 3)
        size = (6.0, 6.0) if i == 0 else (0.15, 1.2)  # the first one covers everything
        opacity = (shapes > i).float() * torch.where(dice.chance(0.7) > 0, torch.ones(()), dice.uniform(0.3, 1))
        canvas = _shape(canvas, dice, size, first, second, opacity)
    canvas = _blur(canvas, dice.tail(4) * 1.5, dice.tail(4) * 1.5)
    return _develop(canvas + dice.noise() * dice.uniform(0, 0.03))


def _sign_block(dice: _Dice) -> tuple[Tensor, Tensor]:
    classes = len(SIGNS)
    labels = torch.from_numpy(np.concatenate([dice.rng.permutation(classes) for _ in range(BLOCK // classes)]))
    scene = _scenery(dice)
    half = 0.9 - 0.67 * dice.tail(1.15)  # of the board's size; 1 fills the picture
    centre_x, centre_y = (dice.sign(1) * (1.08 - half).clamp(0.06, 0.5) for _ in range(2))
    scene = _mount(scene, dice, labels, half, centre_x, centre_y)
    scene = _cover(scene, dice)
    return _photograph(scene, dice), labels


def _scenery(dice: _Dice) -> Tensor:
    """Sky, ground and clutter in muted colours."""
    _, y = _pixels()
    above = dice.uniform(0.35, 0.95) + dice.sign(0.12, 3)
    below = dice.uniform(0.1, 0.6) + dice.sign(0.12, 3)
    horizon, sharpness = dice.sign(0.8), 1 + 12 * dice.uniform(0, 1)
    scene = above + (below - above) * torch.sigmoid((y - horizon) * sharpness)
    scene = scene.expand(BLOCK, 3, SIZE, SIZE)
    for i in range(5):
        vivid = 0.12 + 0.4 * dice.chance(0.25)
        first = dice.uniform(0.05, 0.9) + dice.sign(1, 3) * vivid
        second = first + dice.sign(0.4) + dice.sign(0.1, 3)
        scene = _shape(scene, dice, (0.2, 1.1), first, second, dice.chance(0.75 if i < 3 else 0.45))
    return scene.clamp(0, 1)


def _mount(scene: Tensor, dice: _Dice, labels: Tensor, half: Tensor, cx: Tensor, cy: Tensor) -> Tensor:
    """Put every picture's sign up: turned, sheared and seen from the side, on its pole, its paint faded."""
    x, y = _pixels(2 * SIZE)  # drawn at twice the size, then averaged: smooth edges
    turn = dice.sign(0.16) + dice.sign(0.45) * dice.tail(2)
    lean, aspect = dice.sign(0.18), 1 - 0.4 * dice.tail(2)
    x, y = (x - cx) / half, (y - cy) / half
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    u = (u + lean * v) / aspect
    depth = (1 + dice.sign(0.22) * u + dice.sign(0.14) * v).clamp(min=0.3)
    u, v = u / depth, v / depth

    # u and v run over [-1, 1] within one cell of the atlas; grid_sample wants them over all 2 * 16 of them.
    cell = labels.view(-1, 1, 1, 1) + len(SIGNS) * (half < 0.5)
    v_atlas = (cell + 0.5 + v.clamp(-1, 1) / 2) / len(SIGNS) - 1
    grid = torch.stack([u.clamp(-1, 1).squeeze(1), v_atlas.squeeze(1)], dim=-1)
    atlas = _atlas().expand(BLOCK, -1, -1, -1)
    board = F.avg_pool2d(F.grid_sample(atlas, grid, align_corners=False), 2)

    u, v = u[..., ::2, ::2], v[..., ::2, ::2]
    pole = ((0.07 - u.abs()) * half * SIZE / 2 + 0.5).clamp(0, 1) * (v > 0) * dice.chance(0.7)
    scene = scene + pole * (dice.uniform(0.25, 0.7) - scene)
    colour, cover = board[:, :3], board[:, 3:]
    fade = 0.55 * dice.tail(6)
    colour = colour + fade * (dice.uniform(0.35, 0.75) * cover - colour)
    return scene * (1 - cover) + colour


@lru_cache(maxsize=1)
def _atlas() -> Tensor:
    """Every template below the other, then all again coarser, for signs far away; (1, 4, height, width).

    The rims of the templates are transparent, so whatever lies beyond a sign may be read from its rim.
    """
    sharp = templates()
    coarse = F.interpolate(F.avg_pool2d(sharp, 2), scale_factor=2, mode="bilinear")
    return torch.cat([*sharp, *coarse], dim=1).unsqueeze(0)


def _cover(scene: Tensor, dice: _Dice) -> Tensor:
    """Leaves, lorries and stickers in front of some signs."""
    for share, reach, size in ((0.28, 1.0, (0.12, 0.4)), (0.17, 0.8, (0.3, 0.7))):
        first = dice.uniform(0.05, 0.7) + dice.sign(0.15, 3)
        second = first + dice.sign(0.25)
        scene = _shape(scene, dice, size, first.clamp(0, 1), second.clamp(0, 1), dice.chance(share), reach)
    return scene


def _photograph(scene: Tensor, dice: _Dice) -> Tensor:
    """Light on the scene, then haze, lens, exposure, sensor noise."""
    x, y = _pixels()
    turn = dice.uniform(0, 2 * math.pi)
    across = x * turn.cos() + y * turn.sin() - dice.sign(0.7)
    soft = 1 + dice.sign(0.35) * across.clamp(-1, 1)
    shadow = 1 - dice.chance(0.25) * dice.uniform(0.3, 0.65) * torch.sigmoid(across * dice.uniform(4, 30))
    scene = scene * soft * shadow * (1 + dice.sign(0.13, 3))
    scene = scene + dice.tail(6) * 0.85 * (dice.uniform(0.5, 0.95) - scene)  # haze
    scene = _blur(scene, *(0.25 + 3.0 * dice.tail(3.6) * dice.uniform(0.4, 1) for _ in range(2)))
    scene = scene * (1.15 - 1.0 * dice.tail(3.5))  # exposure
    return _develop(scene + dice.noise() * (0.006 + 0.08 * dice.tail(6)))


def _blur(pictures: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Gaussian blur, its widths (pixels) differing from picture to picture and between the two axes."""
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
