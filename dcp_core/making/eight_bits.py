"""Eight-bit versions of a victim (PTQ, QAT), and the ONNX file that an fp32 victim uses on CPUs."""

import dataclasses
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from dcp_core.data.datasets import DataError, ImageSet, load
from dcp_core.evaluation.metrics import fidelity, per_answer
from dcp_core.making.progress import Making, Progress, following, recipe_of
from dcp_core.models import storing, zoo
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.training import train

CALIBRATED = 1024  # default number of training pictures on which PTQ calibrates
FINE_TUNING = {"epochs": 1, "batch_size": 64, "lr": 0.0005, "schedule": "cosine"}  # default recipe of QAT
CHECKED = 2000  # training pictures on which ONNX Runtime is compared with the simulated eight-bit network
EXACT = 1e-5  # largest allowed difference between the posteriors of an fp32 ONNX file and of eager torch
EXACT_PICTURES = 500  # test pictures on which they are compared


def make_quantized(
    victim: str,
    method: str = "ptq",
    *,
    pictures: int | None = None,
    pool: str | None = None,
    root: Path | None = None,
    **recipe: Any,
) -> Making[zoo.Card]:
    """Make VICTIM-ptq or VICTIM-qat: an eight-bit version that is used like any other victim.

    Calibration and fine-tuning use training pictures only. QAT also trains a control: the fp32 victim, fine-tuned for the
    same steps on the same batches. The card has the test accuracy of both, so that the effect of quantization-aware
    training can be separated from the effect of more training.

    Args:
        victim: name of an fp32 victim.
        method: "ptq" (post-training quantization) rounds the trained weights; "qat" (quantization-aware training)
            fine-tunes the network with simulated rounding.
        pictures: number of training pictures, drawn at random. Default: 1,024 for ptq, all for qat.
        pool: for a victim that was given as a file: data set whose training pictures calibrate it. Default: its stored
            test pictures, without their labels.
        root: folder of victims. Default: `home()/victims`.
        recipe: fields of `models.training.Recipe` for qat. `seed` also selects the pictures.

    Raises:
        ValueError: if the victim or the method is unknown, or the network cannot be quantized.
        FloatingPointError: if the fine-tuning diverges.
    """
    if method not in ("ptq", "qat"):
        raise ValueError(f"unknown quantization method '{method}': use ptq or qat")
    card = zoo.card(victim)
    chosen = recipe_of(card.dataset, FINE_TUNING, recipe)
    if card.source:
        return (yield from _quantized_file(card, method, pictures, pool, chosen.seed, root))
    if pool is not None:
        raise DataError(f"{victim} is calibrated on the training pictures of {card.dataset}: leave out the pool")
    network = zoo.network(victim)
    yield Progress("preparing", 0.0)
    quantization = _quantization()
    training, test = (load(card.dataset, split, size=card.size) for split in ("train", "test"))
    if training.labels is None or test.labels is None:
        raise DataError(f"{card.dataset} has no labels; quantization needs a labelled data set")
    sample = training.drawn(pictures or (CALIBRATED if method == "ptq" else len(training)), chosen.seed)
    prepared = quantization.prepare(network, sample.images, card.size, training=method == "qat")
    made: dict[str, Any] = {
        "method": method,
        "pictures": len(sample),
        "weights": "int8 within +-63, per channel",
        "activations": "uint8, per tensor",
        "batch_norm": "folded",
        "seed": chosen.seed,
        "torchao": version("torchao"),
    }
    if method == "ptq":
        yield Progress("calibrating", 0.1)
        quantization.calibrate(prepared, sample.images)
    else:
        assert sample.labels is not None
        made |= dataclasses.asdict(chosen) | {"ranges_frozen_from": quantization.FREEZE_FROM}
        tuning = quantization.fine_tune(prepared, sample.images, sample.labels, chosen)
        yield from following(tuning, "QAT", end=0.6)
        control = quantization.fold(network, to_pixels(sample.images[:64]))
        tuning = train(control, sample.images, sample.labels, chosen, mixed=False)
        yield from following(tuning, "fp32 control", 0.6, 0.8)
        made["fp32_control"] = _scores(predict(control, test.images), *zoo.test_answers(victim))
    content, model, checks = yield from _exported(quantization, prepared, card, training)
    yield Progress("answering the test pictures", 0.95)
    described = dataclasses.replace(
        card,
        name=f"{victim}-{method}",
        title=f"{card.title}, {zoo.PRECISIONS[method]}",
        precision=method,
        of=victim,
        recipe=made | checks,
        train_pictures=len(sample),
        onnx_sha256="",
        hardware="",
    )
    saved = storing.save_onnx(content, described, predict(model, test.images), test.labels, root)
    yield Progress("done", 1.0)
    return saved


def _quantized_file(
    card: zoo.Card, method: str, pictures: int | None, pool: str | None, seed: int, root: Path | None
) -> Making[zoo.Card]:
    """Make VICTIM-ptq of a victim that was given as a file; see `make_quantized`."""
    if card.source == zoo.SERVICE:
        raise zoo.VictimError(
            f"{card.name} is a service: its network is not on this machine, so it cannot be quantized"
        )
    if method != "ptq":
        raise zoo.VictimError(f"{card.name} was given as a file, which cannot be trained: only ptq is possible")
    if card.precision != "fp32":
        raise zoo.VictimError(f"{card.name} is {zoo.PRECISIONS[card.precision]} already")
    yield Progress("preparing", 0.0)
    from dcp_core.making import onnx_eight_bits  # imported here because it takes seconds
    from dcp_core.models.onnx_model import OnnxClassifier

    test = load(card.dataset, "test", size=card.size)
    assert test.labels is not None
    sample = load(pool, "train", size=card.size) if pool else test
    sample = sample.drawn(pictures or CALIBRATED, seed)
    if sample.images.shape[-1] != card.size:
        raise DataError(
            f"{pool} has pictures of {sample.images.shape[-1]} pixels, but {card.name} takes {card.size}"
        )
    yield Progress("calibrating", 0.1)
    content = onnx_eight_bits.quantize_onnx(zoo.onnx_file(card.name), card.size, len(card.classes), sample.images)
    yield Progress("answering the test pictures", 0.7)
    model = OnnxClassifier(content, card.size, len(card.classes))
    described = dataclasses.replace(
        card,
        name=f"{card.name}-ptq",
        title=f"{card.title}, {zoo.PRECISIONS[method]}",
        precision=method,
        of=card.name,
        recipe=onnx_eight_bits.about(sample.images, pool or "the test pictures, without labels")
        | {"seed": seed, "bytes": len(content)},
        train_pictures=0,
        hardware="",
    )
    saved = storing.save_onnx(content, described, predict(model, test.images), test.labels, root)
    yield Progress("done", 1.0)
    return saved


def make_onnx(victim: str) -> Making[zoo.Card]:
    """Make the ONNX file of an fp32 victim. On CPUs the victim then answers with ONNX Runtime, several times as fast.

    Raises:
        ValueError: if the victim is unknown or quantized, if its network cannot be exported, or if a posterior of ONNX
            Runtime differs from torch's by more than `EXACT` on `EXACT_PICTURES` test pictures.
    """
    from dcp_core.models import onnx_file  # imported here because it takes seconds
    from dcp_core.models.onnx_model import OnnxClassifier

    yield Progress("exporting", 0.0)
    network, card = zoo.network(victim), zoo.card(victim)
    content = onnx_file.to_onnx(network, card.size)
    yield Progress("comparing answers", 0.5)
    pixels = load(card.dataset, "test", EXACT_PICTURES, card.size).images
    model = OnnxClassifier(content, card.size, len(card.classes))
    worst = float((predict(model, pixels).softmax(-1) - predict(network, pixels).softmax(-1)).abs().max())
    if not worst <= EXACT:
        raise onnx_file.QuantizationError(
            f"no ONNX file was stored: its posteriors differ from torch's by {worst:.1e}, more than the allowed {EXACT:.0e}"
        )
    saved = storing.add_onnx(victim, content)
    yield Progress("done", 1.0)
    return saved


def _quantization() -> ModuleType:
    """Import `models.quantization`, which takes seconds, and hide torchao's messages about missing GPU libraries."""
    from dcp_core.models.onnx_file import quiet

    with quiet():
        from dcp_core.models import quantization
    return quantization


def _exported(
    quantization: ModuleType, prepared: Any, card: zoo.Card, training: ImageSet
) -> Generator[Progress, None, tuple[bytes, nn.Module, dict[str, Any]]]:
    """Export a prepared network. Returns the ONNX file, its model, and entries for the card: size and agreement with the
    simulated eight-bit network."""
    from dcp_core.models import onnx_file
    from dcp_core.models.onnx_model import OnnxClassifier

    yield Progress("exporting", 0.8)
    simulated = quantization.convert(prepared)
    content = onnx_file.to_onnx(simulated, card.size)
    model = OnnxClassifier(content, card.size, len(card.classes))
    yield Progress("comparing answers", 0.9)
    drift, same = quantization.check_runtime(simulated, model, training.images[:CHECKED])
    checks = {
        "bytes": len(content),
        "runtime_against_simulation": {
            "pictures": min(CHECKED, len(training)),
            "mean_difference": round(drift, 6),
            "same_top_class": round(same, 2),
        },
    }
    return content, model, checks


def _scores(logits: Tensor, clean: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy of test logits (N, K), agreement with the fp32 victim's `clean` ones (both percent), and mean l1 (0 to 2)."""
    return {
        "test_accuracy": round(100 * float((logits.argmax(-1) == labels).double().mean()), 2),
        "agreement": round(float(fidelity(logits, clean)), 2),
        "l1": round(float(per_answer(logits.softmax(-1), clean.softmax(-1)).l1.double().mean()), 6),
    }
