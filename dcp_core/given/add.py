"""Add a classifier that was made elsewhere as a victim: first `examine` it, then `accept` it."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dcp_core.data.datasets import path_of
from dcp_core.files import home, write_atomic
from dcp_core.given.check import Check, CheckError, alternatives, check
from dcp_core.given.pictures import MOST, LabelledPictures, find_pictures, unreadable
from dcp_core.given.sources import Given, SourceError, open_given
from dcp_core.making.progress import Making, Progress
from dcp_core.models import storing, zoo
from dcp_core.models.architectures import ARCHITECTURES
from dcp_core.models.given_onnx import as_victim
from dcp_core.models.inference import to_pixels
from dcp_core.models.preprocessing import Preprocessing

COMPARED = 8  # test pictures on which the stored file is compared with the given one
ALIGNED = 0.1  # share of the progress before the network answers the test pictures


@dataclass(frozen=True)
class Examination:
    """A given network with what was measured on it; nothing is stored yet.

    Args:
        images: the test pictures as the network sees them, uint8 (N, 3, S, S), with `labels` (N,).
        classes: names of the network's outputs.
        data: where the test pictures come from.
        problems: a sentence for each picture that could not be read.
    """

    given: Given
    check: Check
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    data: str
    problems: tuple[str, ...]

    def words(self) -> list[str]:
        """The result of the examination, in sentences."""
        first = f"{self.given.file}: {self.given.form}, {len(self.classes)} classes"
        return [first, *self.check.words(), *unreadable(self.problems)]


def examine(
    file: Path,
    data: str,
    *,
    classes: tuple[str, ...] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    outputs: str | None = None,
    output: str | None = None,
    network: str | None = None,
    most: int = MOST,
) -> Making[Examination]:
    """Measure a given classifier on labelled test pictures.

    Args:
        file: see `sources.open_given`.
        data: see `pictures.find_pictures`.
        classes: names of the outputs in their order; by default the file's, else the data's.
        preprocessing: arguments of `Preprocessing`. Missing ones are taken from the file. If neither says anything about
            the values of pixels, common preprocessings are tried and the best is taken.
        outputs: "logits" or "probabilities". Default: inferred from the answers.
        output: name of the output with the classes, for an ONNX file with several.
        network: architecture of safetensors weights, one of this project or of torchvision.
        most: largest number of test pictures.

    Raises:
        ValueError: if file, pictures and classes cannot be used, or do not fit together. The message says what to do.
        OSError: for a file that cannot be read.
    """
    yield Progress("opening the network", 0.0)
    asked = dict(preprocessing or {})
    found = find_pictures(data)
    given = open_given(file, output, network, asked.get("size") or _side_of_ours(network, found))
    how, chosen = preprocessing_of(given, found, asked)
    reading = found.read(how.size, how.crop, most)
    while True:
        try:
            step = next(reading)
        except StopIteration as end:
            images, labels, problems = end.value
            break
        yield Progress(step.phase, ALIGNED * step.fraction)
    outputs_count = given.network(to_pixels(images[:2]), how).shape[1]
    labels, names = aligned(found, labels, outputs_count, classes or given.classes)
    about = given.network.signature
    others = alternatives(how, about.channels, about.kind == "tensor(uint8)")
    checking = check(
        given.network, images, labels, names, how, chosen=chosen, outputs=outputs, alternatives=others
    )
    while True:
        try:
            step = next(checking)
        except StopIteration as end:
            measured = end.value
            break
        yield Progress(step.phase, ALIGNED + (1 - ALIGNED) * step.fraction)
    return Examination(given, measured, images, labels, names, found.origin or data, tuple(problems))


def _side_of_ours(network: str | None, pictures: LabelledPictures) -> int | None:
    """The side in pixels at which a network of this project is exported: the pictures' side. None for other networks."""
    return pictures.side if network in ARCHITECTURES else None


def preprocessing_of(given: Given, pictures: LabelledPictures, asked: dict[str, Any]) -> tuple[Preprocessing, str]:
    """The preprocessing to measure first, and where it comes from: "you", "the file", or "trying" if neither gave it.

    Raises:
        SourceError: if the size is unknown, or is not the network's.
    """
    about = given.network.signature
    size = asked.get("size") or about.size or given.says.get("size") or pictures.side
    if size is None:
        raise SourceError(
            f"{given.file} takes pictures of any size: give the one that it was trained for with --size"
        )
    if about.size is not None and size != about.size:
        raise SourceError(f"{given.file} takes pictures of {about.size} x {about.size} pixels only, not {size}")
    fixed = {"size": size, "layout": about.layout}
    if about.channels == 1:
        fixed["order"] = "grey"
    if about.kind == "tensor(uint8)":
        fixed |= {"highest": 255.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    values = {"highest", "mean", "std", "order"}
    chosen = "you" if values & asked.keys() else "the file" if values & given.says.keys() else "trying"
    return Preprocessing(**given.says | asked | fixed), chosen


def aligned(
    pictures: LabelledPictures, labels: Tensor, outputs: int, names: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (N,) as numbers of the network's outputs (0 to K - 1), and the names of the outputs.

    Args:
        outputs: number of outputs.
        names: names of the outputs in their order, if known.

    Raises:
        CheckError: if names, data and outputs do not fit together.
    """
    advice = "give the names of all outputs in their order with --classes FILE, one name a line"
    if names is not None and len(names) != outputs:
        raise CheckError(f"there are {len(names)} class names, but the network has {outputs} outputs: {advice}")
    if not pictures.named:
        if int(labels.max()) < outputs:
            return labels, names or tuple(map(str, range(outputs)))
        return _numbers_as_names(labels, outputs, names)
    if names is None:
        if len(pictures.classes) != outputs:
            raise CheckError(
                f"the data has {len(pictures.classes)} classes, but the network has {outputs} outputs: {advice}"
            )
        return labels, pictures.classes
    places = {_plain(name): number for number, name in enumerate(names)}
    missing = [name for name in pictures.classes if _plain(name) not in places]
    if missing:
        raise CheckError(
            f"the data has the class {missing[0]}, which is not among the names of the outputs ({', '.join(names[:5])}, "
            "...): rename the folder, or give other names with --classes FILE"
        )
    order = labels.new_tensor([places[_plain(name)] for name in pictures.classes])
    return order[labels], names


def _numbers_as_names(
    labels: Tensor, outputs: int, names: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (N,) and names of the outputs, for labels that are not numbers of outputs, such as angles.

    The labels are then names of classes. Without given names, the outputs have them in increasing order.
    """
    numbers, places = labels.unique(return_inverse=True)
    texts = [str(number) for number in numbers.tolist()]
    order = list(names or texts)
    if len(order) != outputs or not set(texts) <= set(order):
        raise CheckError(
            f"the largest label is {texts[-1]}, but the network has {outputs} outputs: give the names of all outputs in "
            "their order with --classes FILE, one name a line"
        )
    return labels.new_tensor([order.index(text) for text in texts])[places], tuple(order)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def accept(name: str, found: Examination, *, replace: bool = False, root: Path | None = None) -> zoo.Card:
    """Store an examined network as a victim: its file, its card, its test pictures, and its clean answers to them.

    If this is interrupted, there is no victim, or the old one.

    Args:
        name: name of the new victim.
        replace: replace a victim of the same name that a user made.
        root: folder of victims. Default: `home()/victims`.

    Raises:
        VictimError: if the name is taken or is not valid as the name of a folder.
        OnnxError: if the network cannot be joined with its preprocessing.
        OSError: if the disk is full.
    """
    check_name(name, replace)
    how = found.check.how
    about = found.given.network.signature
    content = as_victim(found.given.network, how, found.check.outputs, to_pixels(found.images[:COMPARED]))
    described = zoo.Card(
        name=name,
        title=f"{name} ({found.given.file.partition('@')[0]})",  # without the commit, which is in the recipe
        dataset="",
        architecture=found.given.form,
        classes=found.classes,
        size=how.size,
        precision="ptq" if about.quantized else "fp32",
        source=zoo.GIVEN,
        preprocessing=how.values(),
        recipe={
            "file": found.given.file,
            "file_sha256": found.given.sha256,
            "outputs": found.check.outputs,
            "preprocessing_by": found.check.chosen,
            "test_pictures": found.data,
            "findings": list(found.check.findings),
        },
        parameters=about.parameters,
    )

    def save(card: zoo.Card) -> zoo.Card:
        return storing.save_onnx(content, card, found.check.logits, found.labels, root)

    return stored_with_pictures(described, found.images, found.labels, save, root)


def stored_with_pictures(
    described: zoo.Card, images: Tensor, labels: Tensor, save: Callable[[zoo.Card], zoo.Card], root: Path | None
) -> zoo.Card:
    """Store a victim and its test pictures, both or neither.

    Args:
        described: a card without a data set.
        save: stores the victim with the card that it is given.
        images: uint8 (N, 3, S, S), with `labels` (N,).
        root: folder of victims. Default: `home()/victims`.
    """
    name = described.name
    dataset = _store_pictures(name, images, labels, described.classes)
    old = zoo.card(name).dataset if name in zoo.names() else ""
    try:
        card = save(dataclasses.replace(described, dataset=dataset))
    except BaseException:
        if dataset != old:
            path_of(dataset).unlink(missing_ok=True)
        if not old:
            shutil.rmtree((root or home() / "victims") / name, ignore_errors=True)
        raise
    if old != dataset and old.startswith(f"{name}-") and not any(each.dataset == old for each in zoo.cards()):
        path_of(old).unlink(missing_ok=True)
    return card


def check_name(name: str, replace: bool = False) -> None:
    """Check that a new victim can have this name.

    Raises:
        VictimError: if not.
    """
    storing.checked_name(name)
    if name in zoo.names() and not (replace and storing.removable(name)):
        raise zoo.VictimError(
            f"there is a victim {name}: choose another name"
            + (", or replace it with --replace" if storing.removable(name) else "")
        )


def remove(name: str) -> None:
    """Delete one of the user's own victims, and the test pictures that were stored for it.

    Raises:
        VictimError: if the victim is unknown or an included one.
    """
    card = zoo.card(name)
    storing.remove(name)
    if card.source and not any(
        other.dataset == card.dataset for other in zoo.cards()
    ):  # a quantized version needs them
        path_of(card.dataset).unlink(missing_ok=True)


def _store_pictures(name: str, images: Tensor, targets: Tensor, classes: tuple[str, ...]) -> str:
    """Store the test pictures as a data set; returns its name, which depends on the pictures."""
    pictures, labels = images.permute(0, 2, 3, 1).contiguous().numpy(), targets.numpy()
    digest = hashlib.sha256(pictures.tobytes() + labels.tobytes() + repr(classes).encode()).hexdigest()
    dataset = f"{name}-{digest[:8]}"
    if not path_of(dataset).exists():
        arrays = {"x_test": pictures, "y_test": labels, "classes": np.array(classes)}
        write_atomic(path_of(dataset), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    return dataset
