"""`quantize`: eight-bit versions of a victim, or its ONNX file."""

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
    if method == "fp32":
        made(make_onnx(victim))
        click.echo(
            f"{victim} answers by ONNX Runtime on CPUs; posteriors of {EXACT_PICTURES} pictures differ by {EXACT:.0e} "
            "at most"
        )
        return
    tuning = {"epochs": epochs, "batch_size": batch_size, "lr": lr} if method == "qat" else {}
    saved = made(make_quantized(victim, method, pictures=pictures, root=root, seed=seed, **tuning))
    before = zoo.card(victim).test_accuracy
    click.echo(
        f"{saved.name}: {saved.test_accuracy:.2f} % of {saved.test_pictures:,} test pictures, {victim} "
        f"{'?' if before is None else f'{before:.2f}'} %; {saved.recipe['bytes']:,} bytes"
    )
    if control := saved.recipe.get("fp32_control"):
        click.echo(f"fp32 fine-tuned for the same steps: {control['test_accuracy']:.2f} %")
