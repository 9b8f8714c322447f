import math

import pytest
import torch
import toys
from torch import Tensor

from dcp_core.attacks.zeroth_order import Generator, estimate_gradient, probes, to_range

DIMENSIONS = 3 * 8 * 8


def smooth(points: Tensor) -> Tensor:
    """A smooth value of each picture, with a gradient that is known."""
    wave = torch.arange(DIMENSIONS, dtype=points.dtype) / 10
    return (points.flatten(1).sin() * wave.cos()).sum(1)


def gradient(points: Tensor) -> Tensor:
    wave = torch.arange(DIMENSIONS, dtype=points.dtype) / 10
    return (points.flatten(1).cos() * wave.cos()).view_as(points)


def estimate(count: int, directions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Estimated and true gradients, flattened, in float64."""
    dice = torch.Generator().manual_seed(seed)
    pictures = torch.randn(count, 3, 8, 8, generator=dice, dtype=torch.float64)
    points, units = probes(pictures.float(), directions, 1e-3, dice)
    points = torch.cat([pictures[None], pictures + 1e-3 * units.double()]).flatten(0, 1)
    found = estimate_gradient(smooth(points), units.double(), 1e-3)
    return found.flatten(1), gradient(pictures).flatten(1)


@pytest.mark.parametrize("directions", [1, 10, 600])
def test_the_estimate_points_where_theory_says(directions: int) -> None:
    """m random directions of d show cos ~ sqrt(m / (m + d)): .22 for m = 10 and .87 for m = 600 at d = 192."""
    found, true = estimate(200, directions)
    cosine = torch.cosine_similarity(found, true).mean()
    # For one direction |cos| is half-normal over sqrt(d), with mean sqrt(2 / pi d).
    expected = (
        math.sqrt(2 / (math.pi * DIMENSIONS))
        if directions == 1
        else math.sqrt(directions / (directions + DIMENSIONS))
    )
    assert float(cosine) == pytest.approx(expected, abs=0.02)


def test_the_estimate_is_unbiased() -> None:
    """Its component along the true gradient is that gradient's length: deviation sqrt(2 / (m n)) < 0.5 %."""
    found, true = estimate(400, 300)
    ratio = (found * true).sum(1) / (true * true).sum(1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)
    assert float(torch.cosine_similarity(found.mean(0), true.mean(0), dim=0)) > 0.85


def test_one_batch_gives_what_one_point_at_a_time_gives() -> None:
    dice = torch.Generator().manual_seed(1)
    pictures = torch.randn(5, 3, 16, 16, generator=dice)
    points, units = probes(pictures, 4, 1e-2, dice)
    model = toys.victim()
    with torch.no_grad():
        values = model(to_range(points))[:, 0].double()
        base = model(to_range(pictures))[:, 0].double()
        sequential = sum(
            (model(to_range(pictures + 1e-2 * unit))[:, 0].double() - base).view(-1, 1, 1, 1) / 1e-2 * unit
            for unit in units
        )
    expected = 3 * 16 * 16 / 4 * sequential
    assert torch.allclose(
        estimate_gradient(values, units, 1e-2).double(), expected, rtol=1e-3, atol=expected.abs().max() * 1e-3
    )


def test_directions_have_length_one() -> None:
    _, units = probes(torch.zeros(6, 3, 8, 8), 7, 1e-3, torch.Generator().manual_seed(0))
    assert units.shape == (7, 6, 3, 8, 8)
    assert torch.allclose(units.flatten(2).norm(dim=2), torch.ones(7, 6))


def test_the_generator_makes_pixels() -> None:
    pixels = to_range(Generator(8, 4, 16, 12)(torch.randn(5, 8)))
    assert pixels.shape == (5, 3, 16, 12)
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
