"""`victims add`: make a victim of a classifier that was made elsewhere."""

from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from dcp_core.cli.progress import made
from dcp_core.given import (
    EXAMPLE,
    Examination,
    ServiceExamination,
    accept,
    accept_service,
    check_name,
    examine,
    examine_service,
    read_classes,
    read_description,
)
from dcp_core.given.pictures import MOST
from dcp_core.given.services import USUAL
from dcp_core.making import Making
from dcp_core.models import zoo
from dcp_core.models.given_onnx import OUTPUTS
from dcp_core.models.preprocessing import ORDERS, Preprocessing
from dcp_core.runs.store import check_unused

F = TypeVar("F", Examination, ServiceExamination)


def _three(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise click.BadParameter("numbers with commas between them, such as 0.485,0.456,0.406") from error
    return values * 3 if len(values) == 1 else values


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    help="Labelled test pictures: a folder with one folder for each class, an .npz file with the arrays images and labels, "
    "the name of a data set, or hf-dataset:OWNER/NAME.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="File with the names of the outputs in their order, one name a line. Default: what the model says, or the classes "
    "of the data in alphabetical order.",
)
@click.option(
    "--preprocess",
    type=click.Choice(list(Preprocessing.PRESETS)),
    help="Values of pixels. unit: 0 to 1. imagenet: normalised with the mean and std of ImageNet. symmetric: -1 to 1. "
    "bytes: 0 to 255. caffe: BGR, 0 to 255 minus a mean. Default: what the model says; otherwise all are tried and the "
    "best is taken.",
)
@click.option(
    "--size", type=click.IntRange(1), help="Side of the pictures in pixels. Default: what the model says."
)
@click.option("--crop", type=float, help="Share of the centre square's side that the model sees. Default: 1.")
@click.option("--range", "highest", type=click.Choice(["1", "255"]), help="Value of a white pixel.")
@click.option(
    "--mean",
    callback=_three,
    metavar="R,G,B",
    help="Number that is subtracted from each pixel, in units of --range.",
)
@click.option("--std", callback=_three, metavar="R,G,B", help="Divisor, in units of --range.")
@click.option("--order", type=click.Choice(ORDERS), help="Order of the channels.")
@click.option(
    "--outputs", type=click.Choice(OUTPUTS), help="What the model returns. Default: inferred from its answers."
)
@click.option("--output", help="Name of the output with the classes, for a model with several.")
@click.option("--network", help="Architecture of safetensors weights: one of this package or of torchvision.")
@click.option(
    "--most",
    type=click.IntRange(2),
    help=f"Largest number of test pictures. Default: {MOST:,}, for a service {USUAL}.",
)
@click.option(
    "--most-requests",
    type=click.IntRange(1),
    help="For a service: largest number of requests in all, including later attacks.",
)
@click.option(
    "--price-per-1000", type=click.FloatRange(0), default=0.0, help="For a service: price of 1,000 requests."
)
@click.option(
    "--most-money",
    type=click.FloatRange(0),
    help="For a service: largest sum of money that its requests may cost.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option("--replace", is_flag=True, help="Replace your own victim of this name.")
@click.option("--yes", is_flag=True, help="Accept the result of the check without asking.")
@click.option(
    "--to", "root", type=click.Path(path_type=Path), help="Folder of victims. Default: DCP_HOME/victims."
)
def command(
    name: str,
    file: Path,
    data: str,
    classes: Path | None,
    preprocess: str | None,
    outputs: str | None,
    output: str | None,
    network: str | None,
    most: int | None,
    most_requests: int | None,
    price_per_1000: float,
    most_money: float | None,
    threads: int | None,
    replace: bool,
    yes: bool,
    root: Path | None,
    **given: Any,
) -> None:
    """Make a victim NAME of the classifier in FILE.

    FILE is an ONNX model in one file, with one input of square pictures and one output for each class; safetensors weights
    of a known architecture; or a folder of timm or Hugging Face with config.json and model.safetensors, which hf:OWNER/NAME
    and timm:NAME download from the Hugging Face Hub. It is measured on the test pictures first. Likely mistakes in
    preprocessing or order of the classes are named. Nothing is stored until the result is accepted.

    FILE can also be a TOML file that describes a prediction service. Use only a service that is yours or that you may test.
    Requests stay within the limits on their number and price. Answers are kept, so that no picture is sent twice.

    \b
      python -m dcp_core victims add mine model.onnx --data test_pictures/
      python -m dcp_core victims add mine model.onnx --data test.npz --preprocess imagenet --crop 0.875
      python -m dcp_core victims add api service.toml --data test_pictures/ --most-requests 5000 --price-per-1000 1.5
      python -m dcp_core victims add mine weights.safetensors --network resnet18 --data test_pictures/
      python -m dcp_core victims add mine timm:resnet18.a1_in1k --data test_pictures/
    """
    if threads:
        torch.set_num_threads(threads)
    check_name(name, replace)
    # A service notices itself when its answers change, and is replaced in order to raise its limit.
    if root is None and not (file.suffix.lower() == ".toml" and replace):
        check_unused(name)
    if str(file).startswith(("http:", "https:")):
        raise click.UsageError(f"describe the service in a file service.toml and give this file:\n\n{EXAMPLE}")
    if file.suffix.lower() == ".toml":
        limit = _limit(most_requests, price_per_1000, most_money)
        _add_service(name, file, data, limit, price_per_1000, most or USUAL, yes, replace, root)
        return
    if given["highest"] is not None:
        given["highest"] = float(given["highest"])
    asked = (Preprocessing.PRESETS[preprocess] if preprocess else {}) | {
        key: value for key, value in given.items() if value is not None
    }
    if preprocess == "unit":  # a preset with default values also counts as given
        asked = {"order": "RGB"} | asked
    names = read_classes(classes) if classes else None
    found = _measured(
        examine(
            file,
            data,
            classes=names,
            preprocessing=asked,
            outputs=outputs,
            output=output,
            network=network,
            most=most or MOST,
        ),
        "nothing was stored",
    )
    _show(found)
    _confirm(yes)
    _done(accept(name, found, replace=replace, root=root))


def _add_service(
    name: str,
    path: Path,
    data: str,
    limit: int | None,
    price: float,
    most: int,
    yes: bool,
    replace: bool,
    root: Path | None,
) -> None:
    """Ask a service and store it, after the user has agreed to both."""
    if limit is None:
        raise click.UsageError(
            "a service needs a limit: --most-requests N, or --most-money M with --price-per-1000 P"
        )
    service, _ = read_description(path)
    click.echo(
        f"This sends up to {min(most, limit):,} test pictures to {service.host}, and attacks on this victim send more, at "
        f"most {limit:,} requests in all" + (f", which cost {limit * price / 1000:.2f}." if price else ".")
    )
    if not yes:
        click.confirm("Is this service yours, or may you test it? Send the test pictures?", abort=True)
    found = _measured(
        examine_service(path, data, most_requests=limit, price_per_1000=price, most=most),
        "no victim was stored, but the answers are kept: the same command sends no answered picture again",
    )
    for line in found.words():
        click.echo(line)
    _confirm(yes)
    _done(accept_service(name, found, replace=replace, root=root))


def _measured(making: Making[F], kept: str) -> F:
    """Run an examination. Ctrl-C ends the command with a sentence on what is kept."""
    try:
        return made(making)
    except KeyboardInterrupt:
        click.echo(f"\nstopped; {kept}", err=True)
        raise SystemExit(130) from None


def _limit(most_requests: int | None, price: float, money: float | None) -> int | None:
    """The largest number of requests in all, from both limits; None if no limit was given."""
    if money is None:
        return most_requests
    if not price:
        raise click.UsageError("--most-money needs --price-per-1000")
    affordable = int(1000 * money / price)
    if not affordable:
        raise click.UsageError("--most-money is less than the price of one request")
    return min(affordable, most_requests or affordable)


def _confirm(yes: bool) -> None:
    if not yes and not click.confirm("Make this a victim?", default=True):
        click.echo("nothing was stored")
        raise SystemExit(1)


def _done(card: zoo.Card) -> None:
    click.echo(f"{card.name}: accuracy {card.test_accuracy:.2f} % on {card.test_pictures:,} test pictures")
    click.echo(
        f"look at it: python -m dcp_core app; audit it: python -m dcp_core audit {card.name} --hours 1 --pool PICTURES"
    )


def _show(found: Examination) -> None:
    for line in found.words():
        click.echo(line)
    tried = sorted(found.check.tried.items(), key=lambda each: -each[1])
    click.echo("tried on a sample: " + ", ".join(f"{name} {accuracy:.1f} %" for name, accuracy in tried[:5]))
