"""D-DAE: its network, its shadow models, and repeats that are changed before they are sent."""

from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor

from dcp_core.attacks import AttackError, Oracle, make_attack
from dcp_core.attacks import shadows as shadow_models
from dcp_core.attacks.denoiser import denoised, hidden, network
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.recovery import finished
from dcp_core.attacks.shadows import shadow_answers, shadow_task
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses import ReverseSigmoid
from dcp_core.models.training import Recipe


def posteriors(seed: int, count: int) -> Tensor:
    return (4 * torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))).softmax(1)


def l1(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum(1).mean())


def test_the_network_has_the_published_widths() -> None:
    assert [hidden(classes) for classes in (10, 43, 100)] == [(128, 64), (512, 256), (1024, 512)]
    weights = [each for each in network(10).parameters() if each.dim() == 2]
    assert [tuple(each.shape) for each in weights] == [(128, 10), (64, 128), (10, 64)]


def test_the_denoiser_undoes_most_of_a_known_defense() -> None:
    defense, clean = ReverseSigmoid(beta=0.64), posteriors(0, 300)
    found = finished(denoised(defense(clean), defense, 0, posteriors(1, 4000), epochs=30))
    torch.testing.assert_close(found.sum(1), torch.ones(300))
    assert l1(found, clean) < 0.4 * l1(defense(clean), clean)


def labelled(classes: int) -> ImageSet:
    """Pictures whose grey value is their label."""
    labels = torch.arange(400) % classes
    images = labels.byte()[:, None, None, None].expand(400, *toys.SHAPE).contiguous()
    return ImageSet("labelled", images, labels, ())


def test_a_shadow_model_learns_some_classes_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_models, "SHADOW_PICTURES", 50)
    images, labels = shadow_task(labelled(20), 6, seed=3)
    assert len(images) == 50
    assert set(labels.tolist()) <= set(range(6))
    pairs = set(zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
    assert len(pairs) == len({grey for grey, _ in pairs}) == len({label for _, label in pairs})  # one to one
    other = shadow_task(labelled(20), 6, seed=4)[0]
    assert set(other[:, 0, 0, 0].tolist()) != set(images[:, 0, 0, 0].tolist())


def test_each_shadow_model_answers_its_share_of_the_pictures_and_is_not_trained_twice(tmp_path: Path) -> None:
    pool, recipe = toys.pool(200), Recipe(epochs=1, batch_size=32)
    given = (toys.network(11), pool, torch.arange(100), toys.CLASSES, 3, recipe)
    whole = finished(shadow_answers(*given, None))
    assert whole.shape == (100, toys.CLASSES)
    working = shadow_answers(*given, tmp_path / "shadows.pt")
    while next(working) < 0.6:  # into the second one
        pass
    working.close()
    again = shadow_answers(*given, tmp_path / "shadows.pt")
    assert next(again) > 1 / 3
    assert torch.equal(finished(again), whole)


@pytest.mark.parametrize(("pool", "has"), [(labelled(5), 5), (ImageSet("bare", labelled(5).images, None, ()), 0)])
def test_a_pool_without_enough_classes_has_no_shadow_models(pool: ImageSet, has: int) -> None:
    with pytest.raises(AttackError, match=f"at least 6 classes, but {pool.name} has {has}"):
        make_attack("knockoff", treatment="ddae", prior="shadows").steps(toys.theft(100, pool=pool))


def test_a_thief_steals_with_shadow_models_and_without_more_queries() -> None:
    given = toys.theft(200, ReverseSigmoid(beta=0.64), evaluate=toys.judge())
    events = toys.steal("knockoff", given, treatment="bayes", prior="shadows", shadows=2, epochs=8)
    assert given.oracle.used == 200
    assert events[-1].scores is not None
    assert events[-1].scores.error < toys.CHANCE_ERROR - 30
    assert KnockoffNets(treatment="ddae", prior="shadows").thief == "recovery (ddae, shadows prior)"
    assert KnockoffNets(treatment="ddae").thief == "recovery (ddae)"


def test_repeats_can_be_sent_with_other_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    query = Oracle.query

    def watch(self: Oracle, images: Tensor) -> Tensor:
        seen.append(images)
        return query(self, images)

    monkeypatch.setattr(Oracle, "query", watch)
    for augmented in (False, True):
        toys.steal("knockoff", toys.theft(90), repeats=3, augmented=augmented, epochs=1)
    same, changed = seen
    assert len(same) == len(changed) == 90
    assert changed.dtype == torch.uint8
    assert torch.equal(same[0], same[1])
    differ = [not torch.equal(changed[3 * n], changed[3 * n + 1]) for n in range(30)]
    assert sum(differ) > 25  # one of 25 shifts is drawn twice in a row with probability 1/25
    attack = KnockoffNets(repeats=3, augmented=True)
    assert attack.thief == "average (augmented)"
    assert attack.will_ask(900, 90, 0) is None
