"""What a thief who knows the defense can undo: `python -m benchmarks.recovery`.

For each defense, the mean l1 distance from the clean answers: of the answers, and of what a thief recovers from them with
the prior `wide`, with the prior `own` after one and two rounds, and with `oracle`, which is a bound and no thief. A clone is
trained only for the prior `own`. Needs `data download cifar100`. About a minute of one core for each defense.
"""

import argparse
import time

import torch
from torch import Tensor

from dcp_core.attacks import Oracle, Theft
from dcp_core.attacks.adaptive import ORACLE, OWN, RECOVERIES, WIDE, treat
from dcp_core.attacks.clone_training import prior_pictures
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.recovery import CALIBRATING, finished, own_prior
from dcp_core.attacks.transfer_set import TransferSet, picking_order
from dcp_core.data.datasets import load
from dcp_core.defenses import Defense, make_defense
from dcp_core.models import zoo
from dcp_core.models.architectures import build, whiten
from dcp_core.models.auxiliary import arm
from dcp_core.models.fast import WHITEN_MOST
from dcp_core.models.inference import predict
from dcp_core.models.training import train
from dcp_core.provenance import hardware

DEFENSES = {
    "DCP 0.9": make_defense("dcp", beta=0.9),
    "RS 0.64 (γ 0.1)": make_defense("rs", beta=0.64, gamma=0.1),
    "ModelGuard-W 1.0": make_defense("mgw", epsilon=1.0),
    "ModelGuard-S 1.0": make_defense("mgs", epsilon=1.0),
    "DCP 0.9, then ModelGuard-S 1.0": make_defense("dcp_mgs", beta=0.9, epsilon=1.0),
    "DCP 0.9, then rounding": make_defense("dcp_rounding", beta=0.9),
    "labels only": make_defense("label"),
}


class Recovery:
    """A thief who knows the defense, and the clean answers that tell how near he gets."""

    def __init__(
        self, victim: str, pool: str, defense: Defense, queries: int, others: int, epochs: int, network: str
    ) -> None:
        target = zoo.load(victim)
        self.pictures = load(pool, "train", size=target.card.size)
        self.defense, self.model, self.network, self.others = arm(defense, victim), target.model, network, others
        size = target.card.size
        oracle = Oracle(target.model, self.defense, queries, shape=(3, size, size))
        self.theft = Theft(oracle, build(network, oracle.classes), pool=self.pictures, known_defense=self.defense)
        self.asked = TransferSet(self.theft)
        while not self.asked.complete:
            self.asked.ask()
        self.recipe = KnockoffNets(epochs=epochs, lr=0.2).training(queries, 0)

    def l1(self, answers: Tensor, clean: Tensor) -> float:
        """Mean l1 distance to the clean answers."""
        return float((answers - clean).abs().sum(1).mean())

    def recovered(self, treatment: str, prior: Tensor | None) -> Tensor:
        """Estimated clean answers."""
        return finished(treat(self.asked.answers, treatment, self.defense, 0, prior))

    def clone_answers(self, targets: Tensor) -> Tensor:
        """Answers of a clone trained on these targets to other pictures of the pool."""
        torch.manual_seed(0)
        clone = build(self.network, targets.shape[1])
        whiten(clone, self.pictures.images[picking_order(len(self.pictures), 0)[:WHITEN_MOST]])
        for _ in train(clone, self.pictures.images[self.asked.indices], targets, self.recipe):
            pass
        logits = predict(clone, self.pictures.images[prior_pictures(self.asked)[: self.others]])
        asked = predict(clone, self.pictures.images[self.asked.indices[:CALIBRATING]])
        return own_prior(logits, asked, self.asked.answers, self.defense, 0)

    def row(self, clean: Tensor, oracle: Tensor, treatments: list[str]) -> str:
        """All distances of a defense, as a row of a table."""
        cells = [f"{self.l1(self.asked.answers, clean):.3f}"]
        for treatment in treatments:
            wide = self.recovered(treatment, None)
            cells.append(f"{self.l1(wide, clean):.3f}")
            targets = wide
            for _ in range(2):
                targets = self.recovered(treatment, self.clone_answers(targets))
                cells.append(f"{self.l1(targets, clean):.3f}")
            cells.append(f"{self.l1(self.recovered(treatment, oracle), clean):.3f}")
        return " | ".join(cells)


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--victim", default="cifar10-resnet20")
    asked.add_argument("--pool", default="cifar100")
    asked.add_argument("--queries", type=int, default=2000)
    asked.add_argument(
        "--others", type=int, default=10_000, help="Pictures whose answers are the own and oracle priors."
    )
    asked.add_argument("--defense", choices=DEFENSES, action="append", help="Default: all. Can be repeated.")
    asked.add_argument("--treatment", choices=RECOVERIES, action="append", help="Default: bayes and inverse.")
    asked.add_argument("--epochs", type=int, default=10)
    asked.add_argument("--network", default="fast_32_64_64")
    given = asked.parse_args()
    torch.set_num_threads(1)
    print(f"{given}; torch {torch.__version__}, {hardware('cpu')}")
    treatments = given.treatment or ["bayes", "inverse"]
    head = [
        f"{each} {prior}" for each in treatments for prior in (WIDE, f"{OWN} 1", f"{OWN} 2", f"{ORACLE} (bound)")
    ]
    print(" | ".join(["defense", "answers", *head]))
    clean: Tensor | None = None
    for name in given.defense or DEFENSES:
        began = time.process_time()
        thief = Recovery(
            given.victim, given.pool, DEFENSES[name], given.queries, given.others, given.epochs, given.network
        )
        if clean is None:
            others = thief.pictures.images[prior_pictures(thief.asked)[: thief.others]]
            clean = predict(thief.model, thief.pictures.images[thief.asked.indices]).softmax(1)
            oracle = predict(thief.model, others).softmax(1)
        print(f"{name} | {thief.row(clean, oracle, treatments)} ({time.process_time() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
