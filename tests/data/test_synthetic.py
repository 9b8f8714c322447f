"""Properties of the embedded data sets on which training relies."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dcp_core.data.glyphs import SIGNS, TEMPLATE_SIZE, templates
from dcp_core.data.synthetic import BLOCK, SIGN_CLASSES, signs, textures


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor]:
    return signs(3200, seed=7)


@pytest.fixture(scope="module")
def fresh() -> tuple[Tensor, Tensor]:
    return signs(1600, seed=1007)


def _flat(pictures: Tensor) -> Tensor:
    """Each picture as a standardised row, so that a dark one weighs what a bright one does."""
    rows = pictures.flatten(1).float()
    return (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True).clamp(min=1)


def test_a_drawing_has_the_shape_type_and_range_of_a_picture(drawn: tuple[Tensor, Tensor]) -> None:
    pictures, labels = drawn
    assert pictures.shape == (3200, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert labels.shape == (3200,)
    assert labels.dtype == torch.int64
    assert (pictures.min(), pictures.max()) == (0, 255)
    unlabelled = textures(5, seed=7)
    assert unlabelled.shape == (5, 3, 32, 32)
    assert unlabelled.dtype == torch.uint8


def test_no_picture_at_all_is_a_valid_request() -> None:
    pictures, labels = signs(0, seed=1)
    assert pictures.shape == (0, 3, 32, 32)
    assert labels.shape == (0,)
    assert labels.dtype == torch.int64
    assert textures(0, seed=1).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_a_negative_count_or_seed_is_refused(n: int, seed: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        signs(n, seed)
    with pytest.raises(ValueError, match="0 or more"):
        textures(n, seed)


def test_the_same_seed_draws_the_same_pictures_whatever_the_thread_count() -> None:
    first, labels = signs(40, seed=3)
    texture = textures(40, seed=3)
    torch.set_num_threads(2)
    again, labels_again = signs(40, seed=3)
    assert torch.equal(first, again)
    assert torch.equal(labels, labels_again)
    assert torch.equal(texture, textures(40, seed=3))


@pytest.mark.parametrize("n", [1, 100, BLOCK, BLOCK + 1])
def test_a_picture_does_not_depend_on_how_many_are_drawn(n: int, drawn: tuple[Tensor, Tensor]) -> None:
    pictures, labels = signs(n, seed=7)
    assert torch.equal(pictures, drawn[0][:n])
    assert torch.equal(labels, drawn[1][:n])
    assert torch.equal(textures(n, seed=7), textures(BLOCK + 2, seed=7)[:n])


def test_a_result_keeps_no_more_memory_than_its_own() -> None:
    assert signs(1, seed=0)[0].untyped_storage().nbytes() == 3 * 32 * 32


def test_seeds_and_blocks_are_independent(drawn: tuple[Tensor, Tensor]) -> None:
    pictures, labels = drawn
    other, other_labels = signs(BLOCK, seed=8)
    assert not torch.equal(labels[:BLOCK], other_labels)
    for a, b in ((pictures[:BLOCK], other), (pictures[:BLOCK], pictures[BLOCK : 2 * BLOCK])):
        assert (a != b).float().mean() > 0.9
    assert len(pictures.flatten(1).unique(dim=0)) == len(pictures)
    assert (textures(10, seed=7) != textures(10, seed=8)).float().mean() > 0.9


def test_classes_are_balanced_at_every_length_and_in_random_order(drawn: tuple[Tensor, Tensor]) -> None:
    labels = drawn[1]
    assert labels.bincount().tolist() == [200] * 16
    for n in (5, 16, 100, 1000):
        counts = labels[:n].bincount(minlength=16)
        assert counts.max() - counts.min() <= 1
    assert not torch.equal(labels[:16], labels[16:32])


def test_class_names_are_distinct() -> None:
    assert len(set(SIGN_CLASSES)) == len(SIGN_CLASSES) == len(SIGNS) == 16
    assert all(name == name.strip().lower() for name in SIGN_CLASSES)


def test_every_design_is_visible_and_unlike_every_other() -> None:
    designs = templates()
    assert designs.shape == (16, 4, TEMPLATE_SIZE, TEMPLATE_SIZE)
    assert designs.min() >= 0
    assert designs.max() <= 1
    assert (designs[:, :3] <= designs[:, 3:] + 1e-6).all(), "colours are premultiplied by their cover"
    apart = torch.cdist(designs.flatten(1), designs.flatten(1), p=1) / (4 * TEMPLATE_SIZE**2)
    apart.fill_diagonal_(1)
    assert apart.min() > 0.006  # measured 0.0101, 30 against 80: only the first digit differs


def test_designs_leave_a_transparent_rim() -> None:
    """What lies beyond a sign is read from the template's rim."""
    cover = templates()[:, 3]
    for rim in (cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]):
        assert rim.max() == 0


def test_left_and_right_mirror_each_other() -> None:
    left, right = (templates()[SIGN_CLASSES.index(f"turn {side}")] for side in ("left", "right"))
    assert torch.allclose(left.flip(2), right, atol=0.07)


def _ridge_hits(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """The share of `test` that a ridge regression on raw pixels, fitted to `train`, gets right."""
    rows, asked = _flat(train[0]), _flat(test[0])
    targets = 2 * torch.eye(16)[train[1]] - 1
    weights = torch.linalg.solve(rows @ rows.T + 1e4 * torch.eye(len(rows)), targets)  # dual form: one a row
    return (asked @ rows.T @ weights).argmax(1).eq(test[1]).float().mean().item()


def test_labels_say_what_the_pictures_show(drawn: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor]) -> None:
    train = drawn[0][:2000], drawn[1][:2000]
    assert _ridge_hits(train, fresh) > 0.2  # measured 0.26; chance is 0.0625


def test_signs_of_one_look_are_still_told_apart(
    drawn: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor]
) -> None:
    """Same board, same colours: only the symbol can tell no parking from no stopping."""
    look_alikes = torch.tensor([SIGN_CLASSES.index("no parking"), SIGN_CLASSES.index("no stopping")])

    def only(pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.isin(labels, look_alikes)
        return pictures[chosen], labels[chosen]

    assert _ridge_hits(only(*drawn), only(*fresh)) > 0.58  # measured 0.61 to 0.66; chance is 0.5


def test_signs_show_up_in_the_mean_picture_and_textures_do_not(drawn: tuple[Tensor, Tensor]) -> None:
    """Signs favour the middle, in their class's colours; random shapes favour no place."""
    pictures, labels = drawn
    contrast = []
    for group in (*(pictures[labels == k] for k in range(16)), textures(256, seed=7)):
        middle = _flat(group).mean(0).view(3, 32, 32)
        contrast.append(
            (middle[:, 12:20, 12:20].mean((1, 2)) - middle[:, :, [0, 1, 30, 31]].mean((1, 2))).abs().max()
        )
    assert min(contrast[:16]) > 2 * contrast[16]


def test_textures_vary() -> None:
    pictures = textures(500, seed=2).float()
    colours = pictures.mean((2, 3))
    detail = pictures.std((2, 3)).mean(1)
    assert colours.std(0).min() > 25  # of 255: the palette differs from picture to picture
    assert detail.quantile(0.9) > 2 * detail.quantile(0.1)  # plain ones and busy ones


def test_one_picture_can_be_drawn_without_those_before_it() -> None:
    pictures, labels = signs(600, 9)
    for start in (0, 255, 256, 599):
        one, label = signs(1, 9, start)
        assert torch.equal(one[0], pictures[start])
        assert label[0] == labels[start]
    across, _ = signs(10, 9, 250)
    assert torch.equal(across, pictures[250:260])
