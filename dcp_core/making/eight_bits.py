"""Eight-bit versions of a victim (PTQ, QAT), and the ONNX file with which an fp32 victim answers on CPUs."""

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
from dcp_core.models import zoo
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.training import train

CALIBRATED = 1024  # training pictures of PTQ, where nothing else is said
FINE_TUNING = {"epochs": 1, "batch_size": 64, "lr": 0.0005, "schedule": "cosine"}  # QAT, likewise
CHECKED = 2000  # training pictures on which ONNX Runtime must answer as the simulated network
EXACT, EXACT_PICTURES = (
    1e-5,
    500,
)  # what an fp32 ONNX file's posteriors may differ by from eager torch's, and where


def make_quantized(
    victim: str,
    method: str = "ptq",
    *,
    pictures: int | None = None,
    root: Path | None = None,
    **recipe: Any,
) -> Making[zoo.Card]:
    """Make VICTIM-ptq or VICTIM-qat, an eight-bit version that is used like any other victim.

    Calibration and fine-tuning see training pictures only. Beside a QAT, the fp32 victim is fine-tuned for the same
    steps on the same batches, so that the gain of QAT can be told from that of more training; the card says both.

    Args:
        victim: an fp32 victim of the zoo.
        method: "ptq" rounds the trained weights, "qat" fine-tunes through the rounding.
        pictures: training pictures, drawn at random: 1,024 for ptq, all for qat without it.
        root: the folder of victims; `home()/victims` without it.
        recipe: fields of `models.training.Recipe`, for qat; `seed` also draws the pictures.

    Raises:
        ValueError: for an unknown victim or method, or a network that cannot be quantized.
        FloatingPointError: when the fine-tuning diverges.
    """
    if method not in ("ptq", "qat"):
        raise ValueError(f"a victim is quantized by ptq or qat, not by '{method}'")
    network, card = zoo.network(victim), zoo.card(victim)
    chosen = recipe_of(card.dataset, FINE_TUNING, recipe)
    yield Progress("preparing", 0.0)
    quantization = _quantization()
    training, test = (load(card.dataset, split, size=card.size) for split in ("train", "test"))
    if training.labels is None or test.labels is None:
        raise DataError(f"{card.dataset} has no labels")
    lessons = training.drawn(pictures or (CALIBRATED if method == "ptq" else len(training)), chosen.seed)
    prepared = quantization.prepare(network, lessons.images, card.size, training=method == "qat")
    made: dict[str, Any] = {
        "method": method,
        "pictures": len(lessons),
        "weights": "int8 within +-63, per channel",
        "activations": "uint8, per tensor",
        "batch_norm": "folded",
        "seed": chosen.seed,
        "torchao": version("torchao"),
    }
    if method == "ptq":
        yield Progress("calibrating", 0.1)
        quantization.calibrate(prepared, lessons.images)
    else:
        assert lessons.labels is not None
        made |= dataclasses.asdict(chosen) | {"ranges_frozen_from": quantization.FREEZE_FROM}
        tuning = quantization.fine_tune(prepared, lessons.images, lessons.labels, chosen)
        yield from following(tuning, "QAT", end=0.6)
        control = quantization.fold(network, to_pixels(lessons.images[:64]))
        tuning = train(control, lessons.images, lessons.labels, chosen, mixed=False)
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
        train_pictures=len(lessons),
        onnx_sha256="",
        hardware="",
    )
    saved = zoo.save_quantized(content, described, predict(model, test.images), test.labels, root)
    yield Progress("done", 1.0)
    return saved


def make_onnx(victim: str) -> Making[zoo.Card]:
    """Make the ONNX file of an fp32 victim, which then answers by ONNX Runtime on CPUs, several times as fast.

    Raises:
        ValueError: for an unknown or quantized victim, or a network that cannot be exported: ONNX Runtime's posteriors
            may differ from torch's by at most `EXACT` on `EXACT_PICTURES` test pictures.
    """
    from dcp_core.models import onnx_file  # seconds to import, as the exporter is
    from dcp_core.models.onnx_model import OnnxClassifier

    yield Progress("exporting", 0.0)
    network, card = zoo.network(victim), zoo.card(victim)
    content = onnx_file.to_onnx(network, card.size)
    yield Progress("comparing answers", 0.5)
    pixels = load(card.dataset, "test", EXACT_PICTURES, card.size).images
    model = OnnxClassifier(content, card.size, len(card.classes))
    worst = float((predict(model, pixels).softmax(-1) - predict(network, pixels).softmax(-1)).abs().max())
    if not worst <= EXACT:
        raise onnx_file.QuantizationError(f"ONNX Runtime's posteriors differ from torch's by {worst:.1e}")
    saved = zoo.add_onnx(victim, content)
    yield Progress("done", 1.0)
    return saved


def _quantization() -> ModuleType:
    """The module that quantizes. Importing it takes seconds, and torchao names GPU libraries that are not there."""
    from dcp_core.models.onnx_file import quiet

    with quiet():
        from dcp_core.models import quantization
    return quantization


def _exported(
    quantization: ModuleType, prepared: Any, card: zoo.Card, training: ImageSet
) -> Generator[Progress, None, tuple[bytes, nn.Module, dict[str, Any]]]:
    """The ONNX file of a prepared network, its model, and for the card its size and how it compares with the simulation."""
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
    """Of a model's test logits (N, K) beside the fp32 victim's: accuracy and agreement in percent, mean l1."""
    return {
        "test_accuracy": round(100 * float((logits.argmax(-1) == labels).double().mean()), 2),
        "agreement": round(float(fidelity(logits, clean)), 2),
        "l1": round(float(per_answer(logits.softmax(-1), clean.softmax(-1)).l1.double().mean()), 6),
    }
