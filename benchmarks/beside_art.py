"""This project compared with the Adversarial Robustness Toolbox (ART): `python -m benchmarks.beside_art`.

It needs the packages of requirements-art.txt.

1. Microseconds of ART's Reverse Sigmoid, of ours, and of DCP, on the same posteriors. Ours are also measured as exported
   ONNX nodes (`dcp export`) in ONNX Runtime; these start from logits, so their softmax is included. For comparison, the
   formula of Reverse Sigmoid alone is measured in torch, without checks, and not exact at posteriors of 0 and 1.
2. The l1 distance between ART's answers and ours, with the same beta and gamma and the printed odds (`cap_odds=False`).
3. With `--steal`, ART's KnockoffNets and ours against one undefended victim, with the same network, number of queries,
   epochs, batch, learning rate and pool; then our strong thief. The output is the clone's error on the victim's test
   pictures, and processor seconds. This takes ten minutes of one core, and needs `data download cifar10 cifar100`.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import art
import numpy as np
import torch
from art.attacks.extraction import KnockoffNets as ArtKnockoffNets
from art.defences.postprocessor import ReverseSigmoid as ArtReverseSigmoid
from art.estimators.classification import PyTorchClassifier
from onnx import helper
from torch import nn

from dcp_core.attacks import Oracle, Theft
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.transfer_set import picking_order
from dcp_core.data.datasets import load
from dcp_core.defenses import Deception, Defense, NoDefense, ReverseSigmoid
from dcp_core.interop.art import black_box
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.defense_nodes import OPSET, defense_graph
from dcp_core.models.inference import predict
from dcp_core.models.onnx_session import new_session
from dcp_core.provenance import hardware

SHAPES = ((1, 10), (64, 10), (10_000, 10), (10_000, 100), (10_000, 1000))
BETA, GAMMA = 0.64, 0.2
ROUNDS = 60
ART = "ART's RS"
OURS = ("RS", "DCP", "RS exported", "DCP exported")
VICTIM, POOL, QUERIES, EPOCHS, BATCH, RATE = "cifar10-resnet20", "cifar100", 5000, 10, 64, 0.05


def medians(works: dict[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """Median processor microseconds of one call of each function; `calls` calls of each in turns, in random order."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(ROUNDS):
        for name in random.sample(list(works), len(works)):
            began = time.process_time()
            for _ in range(calls):
                works[name]()
            if round_ >= 5:
                found[name].append((time.process_time() - began) / calls)
    return {name: 1e6 * statistics.median(values) for name, values in found.items()}


def bare(y: torch.Tensor) -> torch.Tensor:
    """Eq. 6 and 7 as printed, without a detector; not defined for posteriors of 0 and 1."""
    raised = (y - BETA * (torch.sigmoid(GAMMA * torch.logit(y)) - 0.5)).clamp_min(0)
    return raised / raised.sum(-1, keepdim=True)


def exported(defense: Defense, logits: torch.Tensor) -> Callable[[], object]:
    """A call of the defense's exported nodes on logits (N, K), on one thread."""
    graph = defense_graph(defense, logits.shape[1], baked=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = new_session(model.SerializeToString(), 1)
    return partial(session.run, None, {"logits": logits.numpy()})


def answers() -> None:
    """Parts 1 and 2."""
    theirs, ours, dcp = ArtReverseSigmoid(BETA, GAMMA), ReverseSigmoid(BETA, GAMMA), Deception(0.9)
    printed = ReverseSigmoid(BETA, GAMMA, cap_odds=False)
    for count, classes in SHAPES:
        logits = 4 * torch.randn(count, classes)
        y = logits.softmax(-1)
        array = y.numpy()
        works: dict[str, Callable[[], object]] = {
            ART: partial(theirs, array),
            "RS": partial(ours, y),
            "DCP": partial(dcp, y),
            "RS exported": exported(ours, logits),
            "DCP exported": exported(dcp, logits),
            "the arithmetic": partial(bare, y),
        }
        with torch.inference_mode():
            took = medians(works, calls=50 if count < 100 else 1)
        words = ", ".join(f"{name} {value:,.0f}" for name, value in took.items())
        faster = ", ".join(f"{name} {took[ART] / took[name]:.2f}" for name in OURS)
        print(f"{count:,} x {classes:,} answers, microseconds: {words}; times as fast as ART's: {faster}")
        far = np.abs(theirs(array) - printed(y).numpy()).sum(1)
        print(f"    l1 between ART's answers and ours: {far.mean():.4f} in the mean, {far.max():.4f} at most")


def steal() -> None:
    """Part 3."""
    victim = zoo.load(VICTIM)
    pool, test = load(POOL, "train", size=32), load(victim.card.dataset, "test", size=32)
    assert test.labels is not None
    labels = test.labels

    def oracle() -> Oracle:
        return Oracle(victim.model, NoDefense(), QUERIES, shape=(3, 32, 32))

    def said(name: str, clone: nn.Module, seconds: float) -> None:
        error = 100 * float((predict(clone, test.images).argmax(1) != labels).double().mean())
        print(f"{name}: error {error:.1f} %, {seconds:.0f} processor seconds", flush=True)

    torch.manual_seed(0)
    network = build("resnet20", 10)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, weight_decay=5e-4)
    options = {"clip_values": (0.0, 1.0), "device_type": "cpu"}
    clone = PyTorchClassifier(network, nn.CrossEntropyLoss(), (3, 32, 32), 10, optimizer, **options)
    began = time.process_time()
    thief = ArtKnockoffNets(
        black_box(oracle()),
        batch_size_fit=BATCH,
        batch_size_query=BATCH,
        nb_epochs=EPOCHS,
        nb_stolen=QUERIES,
        use_probability=True,
        verbose=False,
    )
    thief.extract(pool.images[picking_order(len(pool), 0)].float().div(255).numpy(), thieved_classifier=clone)
    said("ART's KnockoffNets, resnet20", network, time.process_time() - began)

    for name, attack in (
        ("resnet20", KnockoffNets(epochs=EPOCHS, batch=BATCH, lr=RATE)),
        ("fast_32_64_128", KnockoffNets(epochs=20, batch=64, lr=0.2, recipe="strong", flip=True)),
    ):
        torch.manual_seed(0)
        ours = build(name, 10)
        theft = Theft(oracle(), ours, pool)
        began = time.process_time()
        for _ in attack.steps(theft):
            pass
        said(f"ours, {name}", theft.clone, time.process_time() - began)


def main() -> None:
    """Run the parts that the command line names."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--steal", action="store_true")
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, ART {art.__version__}, numpy {np.__version__}, {hardware('cpu')}; medians in turns"
    )
    if asked.parse_args().steal:
        steal()
    else:
        answers()


if __name__ == "__main__":
    main()
