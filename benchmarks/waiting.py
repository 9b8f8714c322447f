"""Training with threads that sleep or spin while they wait for each other: `python -m benchmarks.waiting`.

Each part trains resnet8 with one thread for each core, in a process of its own, because torch reads `OMP_WAIT_POLICY`
when it is loaded. Sleeping and spinning take turns, first on the machine as it is, then beside one other busy process.
The output is the median number of steps a second of both, and the ratio.
"""

import os
import statistics
import subprocess
import sys
import time

PART = 5.0  # seconds
TURNS = 3
POLICIES = ("passive", "active")


def steps_a_second() -> float:
    """Steps of training with batches of 64 pictures, after one to warm up."""
    import torch

    from dcp_core.models.architectures import build

    torch.set_num_threads(os.cpu_count() or 1)
    model, pictures = build("resnet8", 16), torch.randn(64, 3, 32, 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    steps, began = -1, 0.0
    while steps < 1 or time.monotonic() < began + PART:
        optimizer.zero_grad()
        model(pictures).logsumexp(1).mean().backward()
        optimizer.step()
        steps += 1
        began = began or time.monotonic()
    return steps / (time.monotonic() - began)


def in_turns() -> dict[str, float]:
    """The median steps a second for each policy."""
    speeds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(TURNS):
        for policy in POLICIES:
            environment = {**os.environ, "OMP_WAIT_POLICY": policy}
            done = subprocess.run([sys.executable, "-m", "benchmarks.waiting", "part"], env=environment, text=True,
                                  check=True, stdout=subprocess.PIPE)  # fmt: skip
            speeds[policy].append(float(done.stdout))
    return {policy: statistics.median(each) for policy, each in speeds.items()}


def main() -> None:
    """Print one line for the machine as it is, and one with another busy process."""
    if sys.argv[1:] == ["part"]:
        print(steps_a_second())
        return
    for others in (0, 1):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            speed = in_turns()
        finally:
            for process in busy:
                process.kill()
        print(
            f"{others} other busy processes: {speed['passive']:.2f} steps a second asleep, "
            f"{speed['active']:.2f} spinning, ratio {speed['passive'] / speed['active']:.2f}"
        )


if __name__ == "__main__":
    main()
