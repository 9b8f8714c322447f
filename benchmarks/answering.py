"""Time of each defense as a share of the forward pass of `cifar10-resnet20` on a CPU, measured in turns in one run.

Run: python -m benchmarks.answering
"""

import random
import statistics
import time
from functools import partial

import torch

from dcp_core.defenses import DEFENSES
from dcp_core.models import zoo
from dcp_core.models.auxiliary import arm

VICTIM = "cifar10-resnet20"


def main(rounds: int = 60) -> None:
    """Print the median time of each defense as a share of one forward pass, for batches of 1 and 64."""
    model = zoo.network(VICTIM).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, K = 10, ResNet-20, eager, medians")
    for batch in (1, 64):
        pixels = torch.rand(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits = model(pixels)
            work = {"victim": partial(model, pixels), "softmax alone": partial(logits.softmax, -1)}
            for name, kind in DEFENSES.items():
                if not kind.needs_inputs:
                    work[name] = partial(arm(kind(), VICTIM), logits=logits)
            seconds: dict[str, list[float]] = {name: [] for name in work}
            for round_ in range(rounds + 5):
                for name in random.sample(list(work), len(work)):
                    start = time.perf_counter()
                    work[name]()
                    if round_ >= 5:  # warm-up
                        seconds[name].append(time.perf_counter() - start)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        print(f"\nbatch {batch}: one forward pass of the victim {1000 * median['victim']:.2f} ms")
        for name, value in median.items():
            if name != "victim":
                print(
                    f"  {name:14}{1e6 * value:8.0f} us  {100 * value / median['victim']:6.2f} % of a forward pass"
                )


if __name__ == "__main__":
    main()
