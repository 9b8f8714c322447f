"""`quantize`: eight-bit versions of a victim, or its ONNX file."""

import dataclasses
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dcp_core.data.datasets import DATASETS, ImageSet, load
from dcp_core.evaluation.metrics import fidelity, per_answer
from dcp_core.models import zoo
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.onnx_model import OnnxClassifier
from dcp_core.models.training import Recipe, train

CHECKED = 2000  # training pictures on which ONNX Runtime must answer as the simulated network
EXACT = 1e-5  # of posteriors: what an fp32 ONNX file may differ by from eager torch

for name in ("torchao", "torch.utils._pytree"):  # importing torchao, they name GPU libraries that are not there
    logging.getLogger(name).setLevel(logging.ERROR)


@click.command()
@click.option("--victim", required=True, help="An fp32 victim's name; `victims` lists them.")
@click.option(
    "--method",
    type=click.Choice(["ptq", "qat", "fp32"]),
    default="ptq",
    show_default=True,
    help="ptq: round the trained weights. qat: fine-tune through the rounding. fp32: no rounding, but an ONNX file "
    "with which the victim itself answers faster on CPUs.",
)
@click.option(
    "--pictures",
    type=click.IntRange(1),
    help="Training pictures, drawn at random: ptq calibrates on them (default 1024), qat trains (default all).",
)
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Of qat.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True, help="Of qat.")
@click.option(
    "--lr", type=float, default=0.0005, show_default=True, help="Peak learning rate of qat, cosine to 0."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores without it.")
@click.option("--to", "root", type=click.Path(path_type=Path), help="Folder of victims; default DCP_HOME/victims.")
def command(
    victim: str,
    method: str,
    pictures: int | None,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    threads: int | None,
    root: Path | None,
) -> None:
    """Make VICTIM-ptq or VICTIM-qat, an eight-bit version of a victim that is picked like any other.

    Calibration and fine-tuning see training pictures only. Beside a QAT, the fp32 victim is fine-tuned for the same
    steps on the same batches, so that the gain of QAT can be told from that of more training; the card says both.

    \b
      python -m dcp_core quantize --victim signs-resnet8
      python -m dcp_core quantize --victim signs-resnet8 --method qat --epochs 2
    """
    if threads:
        torch.set_num_threads(threads)
    network = zoo.network(victim)
    if method == "fp32":
        _add_onnx(victim, network)
        return
    from dcp_core.models import onnx_file, quantization  # torchao takes seconds to import

    card = zoo.card(victim)
    training, test = (load(card.dataset, split, size=card.size) for split in ("train", "test"))
    assert test.labels is not None
    chosen = _some(training, pictures or (1024 if method == "ptq" else len(training)), seed)
    prepared = quantization.prepare(network, chosen.images, card.size, training=method == "qat")
    made: dict[str, Any] = {"method": method, "pictures": len(chosen), "weights": "int8 within +-63, per channel"}
    made |= {"activations": "uint8, per tensor", "batch_norm": "folded", "seed": seed}
    made |= {"torchao": version("torchao")}
    if method == "ptq":
        quantization.calibrate(prepared, chosen.images)
    else:
        assert chosen.labels is not None
        flip = card.dataset in DATASETS and DATASETS[card.dataset].flip
        recipe = Recipe(epochs, batch_size, lr, schedule="cosine", flip=flip, seed=seed)
        made |= dataclasses.asdict(recipe) | {"ranges_frozen_from": quantization.FREEZE_FROM}
        _show("qat", quantization.fine_tune(prepared, chosen.images, chosen.labels, recipe))
        control = quantization.fold(network, to_pixels(chosen.images[:64]))
        _show("fp32 control", train(control, chosen.images, chosen.labels, recipe))
        made["fp32_control"] = _scores(predict(control, test.images), *zoo.test_answers(victim))
    simulated = quantization.convert(prepared)
    content = onnx_file.to_onnx(simulated, card.size)
    model = OnnxClassifier(content, card.size, len(card.classes))
    drift, same = quantization.check_runtime(simulated, model, training.images[:CHECKED])
    made["runtime_against_simulation"] = {
        "pictures": min(CHECKED, len(training)),
        "mean_difference": round(drift, 6),
        "same_top_class": round(same, 2),
    }
    described = dataclasses.replace(
        card,
        name=f"{victim}-{method}",
        title=f"{card.title}, {zoo.PRECISIONS[method]}",
        precision=method,
        of=victim,
        recipe=made,
        train_pictures=len(chosen),
        onnx_sha256="",
        hardware="",
    )
    saved = zoo.save_quantized(content, described, predict(model, test.images), test.labels, root)
    click.echo(
        f"{saved.name}: {saved.test_accuracy:.2f} % of {saved.test_pictures:,} test pictures, "
        f"{victim} {card.test_accuracy:.2f} %; {len(content):,} bytes"
    )
    if "fp32_control" in made:
        click.echo(f"fp32 fine-tuned for the same steps: {made['fp32_control']['test_accuracy']:.2f} %")


def _add_onnx(victim: str, network: nn.Module) -> None:
    from dcp_core.models import onnx_file

    card = zoo.card(victim)
    content = onnx_file.to_onnx(network, card.size)
    pixels = load(card.dataset, "test", 500, card.size).images
    model = OnnxClassifier(content, card.size, len(card.classes))
    worst = float((predict(model, pixels).softmax(-1) - predict(network, pixels).softmax(-1)).abs().max())
    if not worst <= EXACT:
        raise onnx_file.QuantizationError(f"ONNX Runtime's posteriors differ from torch's by {worst:.1e}")
    zoo.add_onnx(victim, content)
    click.echo(
        f"{victim} answers by ONNX Runtime on CPUs; posteriors of 500 pictures differ by {worst:.1e} at most"
    )


def _scores(logits: Tensor, clean: Tensor, labels: Tensor) -> dict[str, float]:
    """Of a model's test logits (N, K) beside the fp32 victim's: accuracy and agreement in percent, mean l1."""
    return {
        "test_accuracy": round(100 * float((logits.argmax(-1) == labels).double().mean()), 2),
        "agreement": round(float(fidelity(logits, clean)), 2),
        "l1": round(float(per_answer(logits.softmax(-1), clean.softmax(-1)).l1.double().mean()), 6),
    }


def _some(data: ImageSet, count: int, seed: int) -> ImageSet:
    if data.labels is None:
        raise click.UsageError(f"{data.name} has no labels")
    pick = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    return dataclasses.replace(data, images=data.images[pick], labels=data.labels[pick])


def _show(what: str, training: Any) -> None:
    with tqdm(total=1.0, bar_format="{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {postfix}") as bar:
        for progress in training:
            bar.n = progress.fraction
            bar.set_postfix_str(f"{what}, step {progress.step}/{progress.steps}, loss {progress.loss:.3f}")
