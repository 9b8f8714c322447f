"""Speed of several attacks at once on this machine: `python -m benchmarks.at_once 1 2 4 8 --network resnet34`.

Each process trains one clone with one CPU thread, as background runs do (`reproduce --at-once`). The output is the number
of pictures a second of all processes together, and its ratio to that of a single process.
"""

import argparse
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import torch

from dcp_core.models.architectures import build
from dcp_core.models.training import Recipe, train

CLASSES, BATCH = 10, 64  # as in the paper
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def clone(network: str, steps: int, together: Barrier) -> tuple[float, float]:
    """Train a clone, after a warm-up. Returns start and end in seconds of the machine's monotonic clock."""
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (BATCH * steps, 3, 32, 32), dtype=torch.uint8)
    answers = torch.rand(len(images), CLASSES).softmax(1)
    model = build(network, CLASSES).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(epochs=1, batch_size=BATCH, lr=1e-3, schedule="cosine")
    for _ in train(model, images[: 4 * BATCH], answers[: 4 * BATCH], recipe):
        pass
    together.wait()
    began = time.monotonic()
    for _ in train(model, images, answers, recipe):
        pass
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return began, time.monotonic()


def speed(count: int, network: str, steps: int) -> float:
    """Pictures a second of `count` clones together, trained at the same time."""
    spawn = get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(count) as pool:
        together = manager.Barrier(count)
        times = pool.starmap(clone, [(network, steps, together)] * count, chunksize=1)
    return count * steps * BATCH / (max(end for _, end in times) - min(begin for begin, _ in times))


def main() -> None:
    """Print one line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--network", default="resnet34" if DEVICE == "cuda" else "resnet20")
    parser.add_argument(
        "--steps", type=int, default=400 if DEVICE == "cuda" else 40, help="batches that each process trains on"
    )
    chosen = parser.parse_args()
    print(f"torch {torch.__version__}, {DEVICE}, {chosen.network}, batches of {BATCH}, one CPU thread each")
    alone = speed(1, chosen.network, chosen.steps)
    for count in chosen.counts:
        together = alone if count == 1 else speed(count, chosen.network, chosen.steps)
        print(f"{count} at once: {together:.0f} pictures/s together, {together / alone:.2f} times one alone")


if __name__ == "__main__":
    main()
