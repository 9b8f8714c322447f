"""The check before a victim is accepted: what it measures, and which mistakes it names."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, SIDE, archive, network, pictures, saved
from PIL import Image

from dcp_core.data.datasets import DataError
from dcp_core.given import Examination, examine, read_classes
from dcp_core.given.check import CheckError
from dcp_core.given.pictures import find_pictures
from dcp_core.given.sources import SourceError
from dcp_core.making import finish
from dcp_core.models.onnx_session import OnnxError
from dcp_core.models.preprocessing import Preprocessing

SOFTMAX = "y = Softmax <axis = 1> (z)"
TWICE = "s = Softmax <axis = 1> (z) y = Softmax <axis = 1> (s)"
NORMALISED = (  # expects (x - 0.5) / 0.5; values far outside -1 to 1 are confused by the period of the cosine
    "h = Constant <value_float = 0.5> () d = Mul (x, h) u = Add (d, h) "
    "k = Constant <value_float = 3.1416> () v = Mul (u, k) c = Cos (v) g = Mul (c, h) t = Sub (h, g)"
)
AS_IT_IS = {"highest": 1.0}  # what the toy classifier expects


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Examination]:
    """Examines a file on the pictures of the toy classifier."""

    def examined(content: bytes, data: str | None = None, **options: Any) -> Examination:
        return finish(examine(saved(tmp_path, content), data or archive(tmp_path), **options))

    return examined


def said(found: Examination) -> str:
    return "\n".join(found.words())


def test_a_good_network_has_its_accuracy_and_no_findings_but_few_pictures(
    check: Callable[..., Examination],
) -> None:
    found = check(network(), preprocessing=AS_IT_IS)
    assert found.check.accuracy == 100
    assert found.check.chance == 25
    assert found.check.outputs == "logits"
    assert found.check.findings == ("only 160 test pictures: the interval is wide",)


@pytest.mark.parametrize(("after", "outputs"), [(SOFTMAX, "probabilities"), ("y = Identity (z)", "logits")])
def test_what_the_outputs_are_is_concluded_from_answers(
    check: Callable[..., Examination], after: str, outputs: str
) -> None:
    found = check(network(after=after))
    assert found.check.outputs == outputs
    assert bool(found.check.logits.softmax(1).max() > 0.9)  # not softmax twice


def test_softmax_twice_is_named_in_the_file_and_in_the_options(check: Callable[..., Examination]) -> None:
    assert "the softmax of probabilities" in said(check(network(after=TWICE)))
    assert "used as logits" in said(check(network(after=SOFTMAX), outputs="logits"))
    assert "softmax twice" not in said(check(network(after=SOFTMAX)))


def test_softmax_twice_of_an_unsure_network_is_named(check: Callable[..., Examination]) -> None:
    unsure = "c = Constant <value_float = 0.3> () u = Mul (z, c) "
    once, twice = (network(after=unsure + form.replace("(z)", "(u)")) for form in (SOFTMAX, TWICE))
    assert "softmax twice" not in said(check(once, preprocessing=AS_IT_IS))
    found = check(twice, preprocessing=AS_IT_IS)
    assert bool(torch.from_numpy(np.exp(found.check.logits.numpy())).max() < 0.4)
    assert "the softmax of probabilities" in said(found)


def test_logits_cannot_be_called_probabilities(check: Callable[..., Examination]) -> None:
    shifted = network(after="h = Constant <value_float = 9.0> () y = Sub (z, h)")
    with pytest.raises(CheckError, match="no probabilities"):
        check(shifted, outputs="probabilities")


def test_without_a_word_on_preprocessing_the_best_is_found_by_trying(check: Callable[..., Examination]) -> None:
    found = check(network(before=NORMALISED, pooled="t"))
    assert found.check.chosen == "trying"
    assert min(found.check.how.mean) > 0.4
    assert found.check.accuracy == 100
    assert set(found.check.tried) == {
        f"{name}, {order}" for name in Preprocessing.PRESETS for order in ("RGB", "BGR")
    }


def test_preprocessings_that_fit_equally_well_are_named(check: Callable[..., Examination]) -> None:
    found = check(network())
    assert found.check.how.highest == 1  # some with 255 fit too, and give surer answers
    assert "the preprocessing is uncertain" in said(found)
    assert "unit, RGB (100.0 %)" in said(found)
    only_bytes = network(before="h = Constant <value_float = 255.0> () t = Div (x, h)", pooled="t")
    assert "uncertain" not in said(check(only_bytes))


def test_near_chance_with_all_preprocessings_is_said(check: Callable[..., Examination]) -> None:
    constant = network(after="n = Sub (z, z) y = Add (n, b)")
    assert "with any of the 10 usual preprocessings" in said(check(constant))
    assert "usual" not in said(check(constant, preprocessing=AS_IT_IS))


@pytest.mark.parametrize(
    ("before", "asked", "advice"),
    [
        (NORMALISED, {"highest": 1.0}, "--range 1 --mean 0.5"),
        ("o = Constant <value_ints = [2, 1, 0]> () t = Gather <axis = 1> (x, o)", {"order": "RGB"}, "--order BGR"),
        ("h = Constant <value_float = 255.0> () t = Div (x, h)", {"highest": 1.0}, "--range 255"),
    ],
)
def test_a_wrong_preprocessing_is_named_with_the_options_that_are_better(
    check: Callable[..., Examination], before: str, asked: dict[str, Any], advice: str
) -> None:
    found = check(network(before=before, pooled="t"), preprocessing=asked)
    assert found.check.chosen == "you"
    assert found.check.accuracy < 80
    assert advice in said(found)


def test_labels_in_another_order_are_named_with_the_order(check: Callable[..., Examination]) -> None:
    found = check(network(order=(2, 0, 3, 1)))
    assert "near chance" in said(found)
    assert "the order of the outputs seems to be green, blue, red, dark" in said(found)
    right = check(network(order=(2, 0, 3, 1)), classes=("green", "blue", "red", "dark"))
    assert right.check.accuracy == 100


def test_a_network_that_always_says_the_same_is_named(check: Callable[..., Examination]) -> None:
    constant = network(after="n = Sub (z, z) y = Add (n, b)")
    assert "names dark for 100 % of the pictures" in said(check(constant))
    assert "another order" not in said(check(constant))


def test_more_outputs_than_classes_ask_for_their_names(check: Callable[..., Examination], tmp_path: Path) -> None:
    images, labels = pictures()
    few = archive(tmp_path, images=images[labels < 2], labels=labels[labels < 2], classes=np.array(CLASSES[:2]))
    with pytest.raises(CheckError, match=r"2 classes, but the network has 4 outputs: .*--classes"):
        check(network(), few)
    assert check(network(), few, classes=CLASSES).check.accuracy == 100


def test_more_classes_than_outputs_are_refused(check: Callable[..., Examination], tmp_path: Path) -> None:
    images, labels = pictures()
    more = archive(tmp_path, images=images, labels=labels * 2, classes=np.array(tuple("abcdefgh")))
    with pytest.raises(CheckError, match="8 classes, but the network has 4 outputs"):
        check(network(), more)


def test_a_class_without_an_output_is_named(check: Callable[..., Examination]) -> None:
    with pytest.raises(CheckError, match="has the class dark"):
        check(network(), classes=("red", "green", "blue", "night"))


def test_a_folder_with_a_folder_for_each_class(check: Callable[..., Examination], tmp_path: Path) -> None:
    images, labels = pictures(side=SIDE * 2)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "data" / "test" / CLASSES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "data" / "test" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    found = check(network(), str(tmp_path / "data"))
    assert found.check.accuracy == 100
    assert found.classes == CLASSES
    assert "cannot be read and were left out: 1." in said(found)
    assert "broken.jpg" in said(found)


def test_pictures_come_in_random_order_so_that_the_first_ones_are_of_every_class(tmp_path: Path) -> None:
    images, labels = pictures()
    order = labels.argsort()
    found = find_pictures(archive(tmp_path, images=images[order], labels=labels[order]))
    assert len(found.labels[:20].unique()) == 4
    assert [CLASSES[k] for k in found.labels[:3].tolist()] == [
        CLASSES[int(labels[order][[bool((images[order][n] == item).all()) for n in range(160)]][0])]
        for item in found.items[:3]
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": np.zeros((160, 8, 8, 3), np.float32)}, "must be uint8"),
        ({"labels": np.zeros(3, np.int64)}, "160 whole numbers"),
        ({"labels": np.full(160, -1)}, "whole numbers from 0"),
        ({"classes": np.array(["a", "b"])}, "only 2 class names"),
        ({"labels": np.array([{}] * 160, object)}, "not a readable .npz"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path: Path, change: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        find_pictures(archive(tmp_path, **change))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"not a readable .npz"):
        find_pictures(str(saved(tmp_path, content, "test.npz")))


def test_pictures_without_class_folders_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="folder of their own"):
        find_pictures(str(tmp_path))


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.pt2", "pytorch_model.bin", "model.pkl"])
def test_files_that_can_run_code_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"torch.onnx.export"):
        finish(examine(saved(tmp_path, b"anything", name), archive(tmp_path)))


def test_a_pickle_is_refused_whatever_its_name(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "model.onnx")
    with pytest.raises(SourceError, match="can run code"):
        finish(examine(tmp_path / "model.onnx", archive(tmp_path)))


def test_a_size_that_the_network_does_not_take_is_refused(check: Callable[..., Examination]) -> None:
    with pytest.raises(SourceError, match="8 x 8 pixels only, not 16"):
        check(network(), preprocessing={"size": 16})


def test_a_network_of_any_size_takes_that_of_the_pictures_or_asks(
    check: Callable[..., Examination], tmp_path: Path
) -> None:
    any_size = network(inputs="float[N,3,H,W] x")
    assert check(any_size).check.how.size == 8
    oblong = archive(tmp_path, images=pictures()[0][:, :, :6])
    with pytest.raises(SourceError, match="--size"):
        check(any_size, oblong)


def test_a_network_that_fails_on_pictures_is_told_in_a_sentence(check: Callable[..., Examination]) -> None:
    broken = network(after="s = Constant <value_ints = [7, 7]> () y = Reshape (z, s)", outputs="float[N,4] y")
    with pytest.raises(OnnxError, match="does not take pictures"):
        check(broken)


@pytest.mark.parametrize("text", ["red\ngreen\n", '["red", "green"]', '{"0": "red", "1": "green"}'])
def test_class_names_in_three_forms(tmp_path: Path, text: str) -> None:
    assert read_classes(saved(tmp_path, text.encode(), "names")) == ("red", "green")


@pytest.mark.parametrize("text", ["", "one", '{"1": "a", "2": "b"}', "[1, 2]", "a\x00\nb", "[" * 100_000])
def test_other_files_have_no_class_names(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError):
        read_classes(saved(tmp_path, text.encode(), "names"))


def test_the_crop_keeps_the_centre(tmp_path: Path) -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, 8:24, 8:24] = 255
    np.savez(tmp_path / "x.npz", images=image, labels=np.array([0]))
    found = find_pictures(str(tmp_path / "x.npz"))
    whole, centre = (finish_reading(found, crop) for crop in (1.0, 0.5))
    assert whole.float().mean() == pytest.approx(255 / 4, rel=0.05)
    assert bool((centre == 255).all())


def finish_reading(found: Any, crop: float) -> torch.Tensor:
    return finish(found.read(16, crop))[0]


def test_examining_changes_no_preprocessing_that_was_asked_for(check: Callable[..., Examination]) -> None:
    asked = {"mean": (0.1, 0.2, 0.3), "crop": 0.9}
    how = check(network(), preprocessing=asked).check.how
    assert dataclasses.asdict(how) | asked == dataclasses.asdict(how)


def test_folders_named_by_numbers_that_are_no_places_are_names(
    check: Callable[..., Examination], tmp_path: Path
) -> None:
    images, labels = pictures(40)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "angles" / str(90 * label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    data = str(tmp_path / "angles")
    found = check(network(), data)
    assert (found.check.accuracy, found.classes) == (100, ("0", "90", "180", "270"))
    turned = ("270", "0", "90", "180")
    assert check(network(order=(3, 0, 1, 2)), data, classes=turned).check.accuracy == 100
    with pytest.raises(CheckError, match="largest label is 270"):
        check(network(), data, classes=("a", "b", "c", "d"))
