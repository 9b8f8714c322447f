"""`audit`: steal a victim in many ways within a time limit, and write one report."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from dcp_core.audit.report import write
from dcp_core.audit.request import CLONE, CLONE_SIZE, DEFENSES_TRIED, MOST_HOURS, Request
from dcp_core.audit.session import audit
from dcp_core.cli.progress import progress_bar
from dcp_core.results.constraints import L1, L1_DEFAULT, L1_LIMITS
from dcp_core.results.decision import Needs
from dcp_core.runs.spec import LEAST_SIDE, MOST_SIDE


@click.command()
@click.argument("victim")
@click.option(
    "--hours",
    type=click.FloatRange(0, MOST_HOURS, min_open=True),
    default=1.0,
    show_default=True,
    help="Time limit. What is not finished then continues with the same command.",
)
@click.option(
    "--price-per-1000", "price", type=click.FloatRange(0), help="Price of 1,000 queries, in any currency."
)
@click.option(
    "--pool",
    "pools",
    multiple=True,
    help="Pictures that the thief sends: a data set, an .npz file or a folder. Give the option again for a second pool, of "
    "another kind of pictures. Default: fitting data sets on this machine.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html and report.json. Default: one in DCP_HOME/audits.",
)
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    help=f"A defense to try; can be given several times. Default: {', '.join(DEFENSES_TRIED)}.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Number of seeds: runs of each attack that differ only in their random numbers.",
)
@click.option("--clone", default=CLONE, show_default=True, help="Network that the thief trains.")
@click.option(
    "--clone-size",
    type=click.IntRange(LEAST_SIDE, MOST_SIDE),
    default=CLONE_SIZE,
    show_default=True,
    help="Side in pixels of the pictures that this network sees, at most the victim's. Twice the side: four times as long.",
)
@click.option(
    "--increase",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Largest allowed rise of the error of your own answers, in percentage points.",
)
@click.option(
    "--l1",
    type=click.FloatRange(0, 2),
    default=0.9,
    show_default=True,
    help="Largest allowed mean l1 distance between defended and clean posteriors, 0 to 2.",
)
@click.option(
    "--l1-of",
    type=click.Choice(list(L1_LIMITS)),
    default=L1_DEFAULT,
    show_default=True,
    help="Answers for which the l1 limit holds.",
)
@click.option(
    "--one-file", is_flag=True, help="Victim and defense must fit into one ONNX file, for an edge device."
)
def command(
    victim: str,
    hours: float,
    price: float | None,
    pools: tuple[str, ...],
    into: Path | None,
    defenses: tuple[str, ...],
    seeds: int,
    clone: str,
    clone_size: int,
    increase: float,
    l1: float,
    l1_of: L1,
    one_file: bool,
) -> None:
    """Find out how well VICTIM can be stolen, at what price, and which defense helps. Writes one report (HTML and JSON).

    Within the time limit, thieves attack the victim with growing numbers of queries, without a defense and behind those
    that fit your limits. The most informative runs come first. They work in the background and appear on the page Attack
    lab. Ctrl-C stops them and writes the report of what is finished; the same command continues, and repeats nothing.

    \b
      python -m dcp_core audit signs-resnet8 --hours 0.1
      python -m dcp_core audit signs-resnet8 --hours 8 --price-per-1000 1.5 --into report
    """
    more = {"defenses": defenses} if defenses else {}
    needs = Needs(increase, l1, one_file, l1_of)
    request = Request.of(
        victim, pools, needs=needs, price=price, seeds=seeds, clone=clone, clone_size=clone_size, **more
    )
    if not pools and not request.same_kind:
        click.echo(
            f"The thief sends {request.pool}, pictures of another kind than the model's. A stronger thief has pictures like "
            "those of your customers: name a folder of such pictures with --pool.",
            err=True,
        )
    stopped, last = False, ""
    with progress_bar() as show, _one_interrupt():
        try:
            for progress in audit(request, hours):
                last = progress.words
                show(progress.fraction, last)
        except KeyboardInterrupt:
            stopped = True
    page = write(request, into)
    click.echo(f"{'stopped; the same command continues.' if stopped else last} The report is in {page}")
    if stopped:
        raise SystemExit(130)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Within the `with` block, the first Ctrl-C or `kill` raises KeyboardInterrupt. Later ones are ignored, because the
    runs are being stopped and the report is being written, which takes seconds.

    SIGINT gets a handler because a shell starts background jobs (`&`) with SIGINT ignored.
    """
    asked = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            click.echo("\nstopping the runs; the report follows", err=True)
            raise KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
