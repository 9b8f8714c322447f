"""The parts of a strong thief, each compared with the same thief without it: `python -m benchmarks.thieves`.

1. Training in bf16 beside float32: pictures a second of `training.train`.
2. `training.train`, data augmentation included, beside a bare forward-backward-step loop on tensors that are already
   in memory, in the precision of this machine (goal: 95 %).
3. With `--ingredients`, a thief without each ingredient of the strong recipe, all on the same answers of an undefended
   victim: error against the victim's top class on pictures of the pool that were not queried (what a thief can
   measure), and against the labels of the victim's test set. Twenty minutes of one core, and `data download`.
"""

import argparse
import dataclasses
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.attacks import BATCH, CLASSES, DEVICE, STEPS, computing_in, in_turns
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.transfer_set import picking_order
from dcp_core.data.datasets import DATASETS, load
from dcp_core.models import zoo
from dcp_core.models.architectures import Classifier, build, whiten
from dcp_core.models.fast import WHITEN_MOST
from dcp_core.models.inference import predict
from dcp_core.models.training import Recipe, train
from dcp_core.precision import PrecisionError, autocast, precision
from dcp_core.provenance import hardware

NETWORKS = ("resnet8", "resnet20", "fast_32_64_128", "fast_32_128_128")
HELD_OUT = 4000  # pictures of the pool that are not queried


def noise() -> tuple[Tensor, Tensor]:
    """Pictures and answers for the training."""
    images = torch.randint(0, 256, (BATCH * STEPS, 3, 32, 32), dtype=torch.uint8)
    return images, torch.rand(len(images), CLASSES).softmax(1)


def train_once(model: nn.Module, images: Tensor, answers: Tensor) -> None:
    """One epoch of `training.train`."""
    for _ in train(model, images, answers, Recipe(epochs=1, batch_size=BATCH, lr=1e-3, schedule="cosine")):
        pass


def precisions(network: str) -> None:
    """Pictures a second in each precision."""
    images, answers = noise()
    model = build(network, CLASSES).to(DEVICE)
    whiten(model, images)

    def work(name: str) -> None:
        with computing_in(name):
            train_once(model, images, answers)

    try:
        took = in_turns({name: lambda name=name: work(name) for name in ("fp32", "bf16")})  # type: ignore[misc]
    except PrecisionError as error:
        print(f"{network}: {error}")
        return
    speed = {name: len(images) / seconds for name, seconds in took.items()}
    print(
        f"training {network}: fp32 {speed['fp32']:.0f}, bf16 {speed['bf16']:.0f} pictures/s: "
        f"{speed['bf16'] / speed['fp32']:.2f} times"
    )


def beside_bare_loop(network: str) -> None:
    """The share of a bare loop's pictures a second that the training loop reaches."""
    images, answers = noise()
    model = build(network, CLASSES).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    whiten(model, images)
    learned = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(learned, 1e-3, 0.9, weight_decay=5e-4, nesterov=True)
    pixels = (images.float() / 255).to(DEVICE).contiguous(memory_format=torch.channels_last).split(BATCH)
    targets = answers.to(DEVICE).split(BATCH)

    def bare() -> None:
        model.train()
        for x, y in zip(pixels, targets, strict=True):
            with autocast(torch.device(DEVICE)):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    took = in_turns({"bare": bare, "ours": lambda: train_once(model, images, answers)})
    share = 100 * took["bare"] / took["ours"]
    speed = {name: len(images) / value for name, value in took.items()}
    print(f"training {network}: {speed['ours']:.0f} pictures/s, bare loop {speed['bare']:.0f}: {share:.1f} %")


def recipes(strong: Recipe) -> dict[str, tuple[Recipe, bool]]:
    """By name: recipes that each lack one part of the strong one, and whether the first convolution is whitened."""
    without = {
        "the strong recipe": strong,
        "without decay on weights alone": dataclasses.replace(strong, decay="all"),
        "with a tenth of the weight decay": dataclasses.replace(strong, weight_decay=strong.weight_decay / 10),
        "without warm-up (cosine)": dataclasses.replace(strong, schedule="cosine"),
        "with a black border": dataclasses.replace(strong, border="black"),
        "with a mirror at random": dataclasses.replace(strong, alternate=False),
    }
    return {name: (recipe, True) for name, recipe in without.items()} | {"without whitening": (strong, False)}


def ingredients(victim: str, pool: str, queries: int, network: str, epochs: int, batch: int, lr: float) -> None:
    """Print the errors of thieves without one ingredient each, and of the thief with the plain recipe."""
    target = zoo.load(victim, DEVICE)
    size = target.card.size
    pictures, test = load(pool, "train", size=size), load(target.card.dataset, "test", size=size)
    assert test.labels is not None
    order = picking_order(len(pictures), 0)
    asked, held = pictures.images[order[:queries]], pictures.images[order[-HELD_OUT:]]
    answers, top = predict(target.model, asked).softmax(-1), predict(target.model, held).argmax(1)
    flip = pool in DATASETS and DATASETS[pool].flip and DATASETS[target.card.dataset].flip
    attack = KnockoffNets(epochs=epochs, batch=batch, lr=lr, flip=flip, recipe="strong")
    plain = dataclasses.replace(attack, recipe="plain").training(queries, 0)
    thieves = {name: (network, *rest) for name, rest in recipes(attack.training(queries, 0)).items()}
    thieves |= {f"the plain recipe, {name}": (name, plain, True) for name in (network, "resnet20")}
    print(
        f"{victim} asked about {queries:,} pictures of {pool}; {network}, {epochs} epochs, batch {batch}, rate {lr}"
    )
    for name, (architecture, recipe, white) in thieves.items():
        torch.manual_seed(0)
        clone = build(architecture, len(target.card.classes)).to(DEVICE)
        if white:
            whiten(clone, pictures.images[order[:WHITEN_MOST]])
        began = time.process_time()
        for _ in train(clone, asked, answers, recipe):
            pass
        took = time.process_time() - began
        words = f"{took:.0f} s" + error_words(clone, held, top, test.images, test.labels)
        if flip and recipe.alternate:
            clone.mirrored = True
            words += f"; and the mirror averaged{error_words(clone, held, top, test.images, test.labels)}"
        print(f"  {name}: {words}", flush=True)


def error_words(clone: Classifier, held: Tensor, top: Tensor, test: Tensor, labels: Tensor) -> str:
    """A clone's two errors in words."""
    wrong = [
        100 * float((predict(clone, x).argmax(1) != y).double().mean()) for x, y in ((held, top), (test, labels))
    ]
    return f", held-out {wrong[0]:.2f} %, test {wrong[1]:.2f} %"


def main() -> None:
    """Run all measurements."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--ingredients", action="store_true")
    asked.add_argument("--victim", default="cifar10-resnet20")
    asked.add_argument("--pool", default="cifar100")
    asked.add_argument("--queries", type=int, default=5000)
    asked.add_argument("--network", default="fast_32_64_128")
    asked.add_argument("--epochs", type=int, default=20)
    asked.add_argument("--batch", type=int, default=64)
    asked.add_argument("--lr", type=float, default=0.1)
    given = vars(asked.parse_args())
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {hardware(DEVICE)}, {precision(DEVICE)}; medians in turns")
    if given.pop("ingredients"):
        ingredients(**given)
        return
    for network in NETWORKS:
        precisions(network)
    for network in NETWORKS:
        beside_bare_loop(network)


if __name__ == "__main__":
    main()
