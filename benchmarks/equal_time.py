"""The weak and the strong thief with equal processor time: `python -m benchmarks.equal_time`.

Both steal `cifar10-resnet20` with the answers to the same 5,000 pictures of CIFAR-100. They train for as many epochs as
fit into 1 to 20 minutes of one core, each in a training of its own, so that its learning rate has ended. The error is that
of the final clone on the victim's test set. Each measurement is added to `precomputed/equal_time.csv` at once, and is not
repeated; all so far are drawn in `docs/images/equal_time.png`. This takes an hour and a half of one core,
`data download cifar10 cifar100`, and a Chromium for the picture.
"""

import csv
import time
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import nn

from benchmarks.picture import keep
from dcp_core.attacks import Oracle, Theft
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.data.datasets import ImageSet, load
from dcp_core.defenses import NoDefense
from dcp_core.files import PRECOMPUTED
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict
from dcp_core.plots import style
from dcp_core.precision import precision
from dcp_core.provenance import hardware

VICTIM, POOL, QUERIES = "cifar10-resnet20", "cifar100", 5000
MINUTES = (1, 2, 5, 10, 20)
THIEVES: dict[str, tuple[str, Callable[[int], KnockoffNets]]] = {
    "ResNet-20, plain recipe": (
        "resnet20",
        lambda epochs: KnockoffNets(epochs=epochs, recipe="plain", flip=True),
    ),
    "fast_32_64_128, strong recipe": (
        "fast_32_64_128",
        lambda epochs: KnockoffNets(epochs=epochs, lr=0.2, recipe="strong", flip=True),
    ),
}
TABLE, PICTURE = PRECOMPUTED / "equal_time.csv", "equal_time.png"
COLUMNS = ["thief", "minutes", "epochs", "seconds", "error", "seed", "precision", "hardware"]


def steal(
    victim: zoo.Victim, pool: ImageSet, network: str, attack: KnockoffNets, seed: int
) -> tuple[Theft, float]:
    """The finished theft, and the processor seconds that it took."""
    torch.manual_seed(seed)
    oracle = Oracle(victim.model, NoDefense(), QUERIES, shape=(3, 32, 32))
    theft = Theft(oracle, build(network, oracle.classes), pool, seed=seed)
    began = time.process_time()
    for _ in attack.steps(theft):
        pass
    return theft, time.process_time() - began


def measure(
    name: str, minutes: int, victim: zoo.Victim, pool: ImageSet, test: ImageSet, seed: int = 0
) -> list[object]:
    """Train one clone for about so many minutes of processor time, and return its row of the table."""
    network, attack = THIEVES[name]
    one, two = (steal(victim, pool, network, attack(epochs), seed)[1] for epochs in (1, 2))
    epochs = max(1, round((60 * minutes - (2 * one - two)) / (two - one)))
    theft, seconds = steal(victim, pool, network, attack(epochs), seed)
    wrong = round(error(theft.clone, test), 2)
    return [name, minutes, epochs, round(seconds, 1), wrong, seed, precision("cpu"), hardware("cpu")]


def error(model: nn.Module, test: ImageSet) -> float:
    """Error on the test set, %."""
    assert test.labels is not None
    return 100 * float((predict(model, test.images).argmax(1) != test.labels).double().mean())


def figure(table: pd.DataFrame, victim_error: float) -> go.Figure:
    """Error over processor minutes, one line for each thief."""
    drawn = go.Figure()
    for name, rows in table.groupby("thief", sort=False):
        drawn.add_scatter(x=rows["seconds"] / 60, y=rows["error"], name=str(name), mode="lines+markers+text")
        drawn.data[-1].update(text=[f"{value:.0f} %" for value in rows["error"]], textposition="top center")
    drawn.add_hline(victim_error, line_dash="dot", annotation_text=f"the victim, {victim_error:.1f} %")
    drawn.update_xaxes(type="log", tickvals=MINUTES)
    drawn.update_yaxes(rangemode="tozero")
    return style.polish(
        drawn, x="Minutes of one core for the clone's training", y="Clone's error, %", height=420
    ).update_layout(template="plotly_white", font_size=14)


def draw(victim_error: float) -> None:
    """Write the picture of all measurements so far."""
    keep(figure(pd.read_csv(TABLE), victim_error), PICTURE)


def main() -> None:
    """Measure what is missing, and draw after each measurement."""
    torch.set_num_threads(1)
    victim, pool, test = zoo.load(VICTIM), load(POOL, "train", size=32), load("cifar10", "test", size=32)
    victim_error = error(victim.model, test)
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    done = {(row.thief, row.minutes) for row in pd.read_csv(TABLE).itertuples()}
    for minutes in MINUTES:
        for name in THIEVES:
            if (name, minutes) not in done:
                row = measure(name, minutes, victim, pool, test)
                with TABLE.open("a", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerow(row)
                print(*row, flush=True)
                draw(victim_error)


if __name__ == "__main__":
    main()
