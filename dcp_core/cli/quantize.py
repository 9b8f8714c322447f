"""`quantize`: make an eight-bit version of a victim, or its ONNX file."""

from pathlib import Path

import click
import torch

from dcp_core.cli.progress import made
from dcp_core.making import make_onnx, make_quantized
from dcp_core.making.eight_bits import EXACT, EXACT_PICTURES
from dcp_core.models import zoo


@click.command()
@click.option("--victim", required=True, help="An fp32 victim's name; `victims` lists them.")
@click.option(
    "--method",
    type=click.Choice(["ptq", "qat", "fp32"]),
    default="ptq",
    show_default=True,
    help="ptq: round the trained weights. qat: fine-tune with simulated rounding. fp32: no rounding; make an ONNX file "
    "with which the victim answers faster on CPUs.",
)
@click.option(
    "--pictures",
    type=click.IntRange(1),
    help="Number of training pictures, drawn at random. ptq calibrates on them (default 1024), qat trains on them "
    "(default: all).",
)
@click.option(
    "--pool",
    help="For a victim that was given as a file: data set whose training pictures calibrate it. Default: its test pictures, "
    "without labels.",
)
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Epochs of qat.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True, help="Batch size of qat.")
@click.option(
    "--lr",
    type=float,
    default=0.0005,
    show_default=True,
    help="Peak learning rate of qat, with a cosine schedule to 0.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option(
    "--to", "root", type=click.Path(path_type=Path), help="Folder of victims. Default: DCP_HOME/victims."
)
def command(
    victim: str,
    method: str,
    pictures: int | None,
    pool: str | None,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    threads: int | None,
    root: Path | None,
) -> None:
    """Make VICTIM-ptq or VICTIM-qat, an eight-bit version of a victim. It is used like any other victim.

    Calibration and fine-tuning use training pictures only. qat also trains a control: the fp32 victim, fine-tuned for
    the same steps on the same batches. The card has the test accuracy of both, so that the effect of
    quantization-aware training can be separated from the effect of more training.

    \b
      python -m dcp_core quantize --victim signs-resnet8
      python -m dcp_core quantize --victim signs-resnet8 --method qat --epochs 2
    """
    if threads:
        torch.set_num_threads(threads)
    if method == "fp32":
        made(make_onnx(victim))
        click.echo(
            f"{victim} now answers with ONNX Runtime on CPUs. The posteriors of {EXACT_PICTURES} pictures differ from "
            f"torch's by at most {EXACT:.0e}"
        )
        return
    tuning = {"epochs": epochs, "batch_size": batch_size, "lr": lr} if method == "qat" else {}
    saved = made(make_quantized(victim, method, pictures=pictures, pool=pool, root=root, seed=seed, **tuning))
    before = zoo.card(victim).test_accuracy
    click.echo(
        f"{saved.name}: accuracy {saved.test_accuracy:.2f} % on {saved.test_pictures:,} test pictures ({victim}: "
        f"{'unknown' if before is None else f'{before:.2f} %'}); {saved.recipe['bytes']:,} bytes"
    )
    if control := saved.recipe.get("fp32_control"):
        click.echo(f"fp32 fine-tuned for the same steps: accuracy {control['test_accuracy']:.2f} %")
