"""Speed and memory of the attacks: `python -m benchmarks.attacks`.

1. A zeroth-order gradient estimate with one call of the victim, compared with one call for each point.
2. Memory of a data-free attack, early and at the end.
3. Queries a second of DFME and MAZE on `signs-resnet8` with the settings of `precomputed/plans/fig3.toml`, in each
   precision, and the share of the time that the victim's answers take.

The training of a clone is measured by `benchmarks/thieves.py`.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from dcp_core.attacks import Oracle, Theft, make_attack
from dcp_core.attacks.data_free import DataFree
from dcp_core.attacks.zeroth_order import probes, to_range
from dcp_core.defenses import Deception, NoDefense
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.precision import VARIABLE, PrecisionError

CLASSES, BATCH, STEPS, ROUNDS = 16, 128, 20, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def computing_in(name: str) -> Iterator[None]:
    """A context in which training uses this precision."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call. On a CPU it is processor time, which other programs affect less."""
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    start = clock()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def in_turns(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each function, called in turns, after one warm-up call."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in found.items()}


def estimate(count: int = 32, directions: int = 10) -> None:
    """Print the time of the victim's answers for a gradient estimate, in one call and in many calls."""
    victim = build("resnet8", CLASSES)
    oracle = Oracle(victim, Deception(), 10**9, device=DEVICE)
    rng = torch.Generator(DEVICE).manual_seed(0)
    before = torch.randn(count, 3, 32, 32, device=DEVICE, generator=rng)
    points, _ = probes(before, directions, 1e-3, rng)
    pixels = to_range(points)
    took = in_turns(
        {
            "one call": lambda: oracle.query(pixels),
            "a call a point": lambda: [oracle.query(part) for part in pixels.split(count)],
            "a call a picture": lambda: [oracle.query(part) for part in pixels.split(1)],
        }
    )
    print(f"estimate of {count} gradients, {directions} directions: ", end="")
    print(", ".join(f"{name} {1000 * value:.1f} ms" for name, value in took.items()))


def memory() -> None:
    """Print the peak memory of MAZE after a quarter of the queries, and at the end. The buffer is allocated at the start."""
    oracle = Oracle(build("resnet8", CLASSES), Deception(), 24 * 16 * 15, device=DEVICE)
    theft = Theft(oracle, build("resnet8", CLASSES), logs=4)
    peaks = []
    for event in make_attack("maze", batch=16, width=16).steps(theft):
        if not peaks and event.fraction < 0.25:
            continue
        peak = (
            torch.cuda.max_memory_allocated()
            if DEVICE == "cuda"
            else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        )
        peaks.append((event.queries, peak / 2**20))
    (early, first), (late, last) = peaks[0], peaks[-1]
    print(f"MAZE: peak {first:.1f} MiB after {early:,} queries, {last:.1f} MiB after {late:,}")


def data_free(name: str, iterations: int = 5, **parameters: float) -> None:
    """Print how many queries a second an attack makes, beside the victim alone on as many pictures."""
    victim, attack = zoo.load("signs-resnet8", DEVICE), make_attack(name, **parameters)
    assert isinstance(attack, DataFree)
    queries = iterations * attack.queries_per_iteration

    def steal(precision: str) -> None:
        oracle = Oracle(victim.model, NoDefense(), queries, device=DEVICE)
        with computing_in(precision):
            for _ in attack.steps(Theft(oracle, build("resnet8", oracle.classes), logs=1)):
                pass

    pixels = torch.rand(attack.batch, 3, 32, 32, device=DEVICE)

    def answer() -> None:
        oracle = Oracle(victim.model, NoDefense(), queries, device=DEVICE)
        while oracle.left:
            oracle.query(pixels)

    works: dict[str, Callable[[], object]] = {"fp32": lambda: steal("fp32"), "bf16": lambda: steal("bf16")}
    try:
        took = in_turns(works | {"victim": answer}, rounds=3)
    except PrecisionError as error:
        print(f"{name}: {error}")
        took = in_turns({"fp32": works["fp32"], "victim": answer}, rounds=3)
    for precision in [name for name in works if name in took]:
        share = 100 * took["victim"] / took[precision]
        print(f"{name}, {precision}: {queries / took[precision]:.0f} queries/s, {share:.0f} % of it the victim's")


def main() -> None:
    """Run all measurements."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {DEVICE}, one CPU thread; medians of {ROUNDS} rounds in turns")
    memory()
    estimate()
    data_free("dfme", batch=32, width=32, lr_generator=0.001)
    data_free("maze", batch=32, width=32, directions=5)


if __name__ == "__main__":
    main()
