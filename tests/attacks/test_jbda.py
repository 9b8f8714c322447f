import pytest
import torch
import toys
from torch import Tensor, nn

from dcp_core.attacks import Oracle, make_attack
from dcp_core.attacks.jbda import JBDA
from dcp_core.attacks.transfer_set import picking_order
from dcp_core.defenses import Deception, LabelOnly, NoDefense


class Linear(nn.Module):
    """Logits (w . x, 0, 0): the gradient of a class by a pixel has the sign of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 2, 2))

    def forward(self, pixels: Tensor) -> Tensor:
        scores = (pixels * self.weight).flatten(1).sum(1)
        return torch.stack([scores, torch.zeros_like(scores), torch.zeros_like(scores)], 1)


@pytest.mark.parametrize(("variant", "direction"), [("jbda", 1), ("i-fgsm", -1), ("t-rnd", 1)])
def test_a_pixel_moves_by_lambda_along_the_sign_of_the_gradient(variant: str, direction: int) -> None:
    clone, images = Linear(), torch.full((2, 3, 2, 2), 128, dtype=torch.uint8)
    images[1] = 250  # near white: cut at 255
    attack = make_attack("jbda", variant=variant, change=0.1, small_steps=5)
    assert isinstance(attack, JBDA)
    new = attack.changed(clone, images, torch.tensor([0, 0])).int()
    signs = direction * clone.weight.detach().sign().int()
    moved = (new[0] - 128) * signs
    assert bool(((moved >= 25) & (moved <= 26)).all())  # 0.1 of 255 is 25.5
    assert torch.equal(new[1] > 250, signs > 0)
    assert int(new.max()) == 255


def test_the_number_of_pictures_doubles_until_the_budget_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    query = Oracle.query

    def watch(self: Oracle, images: Tensor) -> Tensor:
        seen.append(images)
        return query(self, images)

    monkeypatch.setattr(Oracle, "query", watch)
    toys.steal("jbda", toys.theft(170), start=40, epochs=1, change=0.1)
    assert [len(images) for images in seen] == [40, 40, 80, 10]
    pool = toys.pool().images
    first = pool[picking_order(900, 0)[:40]]
    assert torch.equal(seen[0], first)
    # each new picture of the first round differs from its own one of the start by at most .1 in each pixel
    apart = (seen[1][:, None].int() - first[None].int()).abs().flatten(2).amax(2)
    assert apart.amin(1).max() <= 26
    assert torch.equal(apart.argmin(1).sort().values, torch.arange(40))


def test_a_random_target_is_another_class_than_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    given = toys.theft(200)
    towards: list[Tensor] = []
    changed = JBDA.changed

    def watch(self: JBDA, clone: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        towards.append(classes)
        return changed(self, clone, images, classes)

    monkeypatch.setattr(JBDA, "changed", watch)
    toys.steal("jbda", given, variant="t-rnd", small_steps=2, epochs=1)
    first = toys.pool().images[picking_order(900, 0)[:100]]
    rng = torch.Generator().manual_seed(1)
    top = toys.victim()(first.float() / 255).argmax(1)[torch.randperm(100, generator=rng)]
    assert bool((torch.cat(towards) != top).all())
    assert len(torch.cat(towards).unique()) == toys.CLASSES


def test_labels_alone_are_enough_as_published() -> None:
    clones = []
    for defense in (NoDefense(), Deception(beta=0.9), LabelOnly()):
        given = toys.theft(150, defense)
        toys.steal("jbda", given, epochs=1)
        clones.append(given.clone.state_dict())
    for other in clones[1:]:
        assert all(torch.equal(value, other[name]) for name, value in clones[0].items())
    assert make_attack("jbda").thief == "top-1"
    assert make_attack("jbda", targets="posteriors").thief == "as is"
