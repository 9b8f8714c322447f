"""Does a defense take information, or only time? Error against epochs: `python -m benchmarks.epochs`.

A strong thief steals `cifar10-resnet20` with 2,000 pictures of CIFAR-100, undefended and behind DCP, and trains for 5 to 80
epochs on the same answers, each in a training of its own. If a defense only slowed the training, more epochs would reach the
undefended error. The errors are those of the final clone on the victim's test set. Each is added to `precomputed/epochs.csv`
at once, and is not measured again; all so far are drawn in `docs/images/epochs.png`. Twenty minutes of one core,
`data download cifar10 cifar100`, and a Chromium for the picture.
"""

import csv

import pandas as pd
import plotly.graph_objects as go
import torch

from benchmarks.equal_time import POOL, VICTIM, error
from benchmarks.picture import keep
from dcp_core.attacks import Oracle, Theft
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.data.datasets import load
from dcp_core.defenses import Deception, Defense, NoDefense
from dcp_core.files import PRECOMPUTED
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.plots import style
from dcp_core.precision import precision
from dcp_core.provenance import hardware

QUERIES, EPOCHS, SEED = 2000, (5, 10, 20, 40, 80), 0
NETWORK = "fast_32_64_64"
DEFENSES: dict[str, Defense] = {"no defense": NoDefense(), "DCP, β = 0.9": Deception(beta=0.9)}
TABLE = PRECOMPUTED / "epochs.csv"
COLUMNS = ["defense", "epochs", "error", "seed", "precision", "hardware"]


def figure(table: pd.DataFrame) -> go.Figure:
    """Error over epochs, one line for each defense."""
    drawn = go.Figure()
    for name, rows in table.groupby("defense", sort=False):
        rows = rows.sort_values("epochs")
        drawn.add_scatter(x=rows["epochs"], y=rows["error"], name=str(name), mode="lines+markers+text")
        drawn.data[-1].update(text=[f"{value:.0f} %" for value in rows["error"]], textposition="top center")
    drawn.update_xaxes(type="log", tickvals=EPOCHS)
    drawn.update_yaxes(rangemode="tozero")
    return style.polish(drawn, x="Epochs of the clone's training", y="Clone's error, %", height=420).update_layout(
        template="plotly_white", font_size=14
    )


def main() -> None:
    """Measure what is missing, and draw after each measurement."""
    torch.set_num_threads(1)
    victim, pool, test = zoo.load(VICTIM), load(POOL, "train", size=32), load("cifar10", "test", size=32)
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    done = {(row.defense, row.epochs) for row in pd.read_csv(TABLE).itertuples()}
    for epochs in EPOCHS:
        for name, defense in DEFENSES.items():
            if (name, epochs) in done:
                continue
            torch.manual_seed(SEED)
            oracle = Oracle(victim.model, defense, QUERIES, shape=(3, 32, 32))
            theft = Theft(oracle, build(NETWORK, oracle.classes), pool, seed=SEED)
            for _ in KnockoffNets(epochs=epochs, lr=0.2, recipe="strong", flip=True).steps(theft):
                pass
            row = [name, epochs, round(error(theft.clone, test), 2), SEED, precision("cpu"), hardware("cpu")]
            with TABLE.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
            keep(figure(pd.read_csv(TABLE)), "epochs.png")


if __name__ == "__main__":
    main()
