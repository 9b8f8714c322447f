"""The time that AM, MAD, GRAD^2 and ModelGuard-W take: `python -m benchmarks.defenses`.

ResNet-20 victim and surrogate (untrained: speed does not depend on the weights), all timed in turns in one run, in
units of one forward pass of the victim on the same batch. "literal" is the same defense by autograd, picture by
picture and class by class, as published implementations compute it. ModelGuard-W is compared with HiGHS, which solves
one linear program for each answer.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from dcp_core.defenses import MAD, AdaptiveMisinformation, GradientRedirection, ModelGuardW, literal
from dcp_core.defenses.modelguard_w import MARGIN, SMALL
from dcp_core.models.architectures import build
from dcp_core.provenance import hardware, versions

ROUNDS, ENOUGH = 25, 20.0  # rounds, and seconds of one setting after which three rounds are enough


def in_turns(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of processor time of each, called in turns after one warm-up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    began = time.monotonic()
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                found[name].append(time.process_time() - start)
        if turn >= 3 and time.monotonic() - began > ENOUGH:
            break
    return {name: statistics.median(values) for name, values in found.items()}


def settings(classes: int, batch: int) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """The timed functions: those of this package, and the slow literal versions."""
    torch.manual_seed(0)
    victim, second = build("resnet20", classes).eval(), build("resnet20", classes).eval()
    victim.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    z = 3 * torch.randn(batch, classes)
    y = z.softmax(-1)
    am, mad, ones = (kind().armed(second) for kind in (AdaptiveMisinformation, MAD, GradientRedirection))
    own = GradientRedirection(target="min-ip").armed(second)

    def forward() -> Tensor:
        with torch.inference_mode():
            return victim(x)

    ours: dict[str, Callable[[], object]] = {
        "victim forward": forward,
        "AM": lambda: am(logits=z, inputs=x),
        "MAD last layer": lambda: mad(logits=z, inputs=x),
        "GRAD2 all-ones": lambda: ones(logits=z, inputs=x),
        "GRAD2 all-ones, 10 strengths": lambda: ones.sweep(ones.grid[1:], logits=z, inputs=x),
        "ModelGuard-W": lambda: ModelGuardW()(logits=z),
        "MAD last layer, 10 strengths": lambda: mad.sweep(mad.grid[1:], logits=z, inputs=x),
        "GRAD2 min-ip, by picture": lambda: own(logits=z, inputs=x),
    }
    target = literal.all_ones(second)
    slow: dict[str, Callable[[], object]] = {
        "victim forward": forward,
        "GRAD2 all-ones": lambda: literal.grad2(second, y, x, 0.5, target),
    }
    if batch == 1 or classes == 10:
        slow["MAD last layer"] = lambda: literal.mad(second, y, x, 0.5)
    return ours, slow


def linear_program(clean: np.ndarray, epsilon: float) -> np.ndarray:
    """ModelGuard-W's answer (K,) by HiGHS, as a program in y' and bounds u >= |y' - y|."""
    top, one = int(clean.argmax()), np.eye(len(clean))
    ahead = np.delete(one - one[top], top, axis=0)
    rows = np.block([[one, -one], [-one, -one], [0 * clean, 1 + 0 * clean], [ahead, 0 * ahead]])
    found = linprog(
        np.r_[np.log(clean + SMALL), 0 * clean],
        A_ub=rows,
        b_ub=np.r_[clean, -clean, epsilon, np.full(len(ahead), -MARGIN)],
        A_eq=np.r_[1 + 0 * clean, 0 * clean][None],
        b_eq=[1.0],
        method="highs",
    )
    return found.x[: len(clean)]


def modelguard(classes: int, count: int = 10_000, programs: int = 100) -> str:
    """Ten budgets for `count` answers, beside the solver's time for some of these programs."""
    z = 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(0))
    defense, y = ModelGuardW(), z[:programs].double().softmax(-1).numpy()
    took = in_turns(
        {
            "ours": lambda: defense.sweep(defense.grid[1:], logits=z),
            "HiGHS": lambda: [linear_program(row, defense.epsilon) for row in y],
        }
    )
    ratio = (took["HiGHS"] / programs) / (took["ours"] / count / len(defense.grid[1:]))
    return (
        f"ModelGuard-W, K = {classes}: {len(defense.grid[1:])} budgets for {count:,} answers take {took['ours']:.2f} s; "
        f"HiGHS takes {1000 * took['HiGHS'] / programs:.2f} ms a program, {ratio:,.0f} times as long"
    )


def main() -> None:
    """Print a table for each setting."""
    torch.set_num_threads(1)
    print(f"{hardware(torch.device('cpu'))}, torch {versions()['torch']}; medians, in turns")
    for classes in (10, 100):
        for batch in (1, 64):
            ours, slow = settings(classes, batch)
            took, literally = in_turns(ours), in_turns(slow)
            forward, forward_then = took.pop("victim forward"), literally.pop("victim forward")
            print(f"\nK = {classes}, batch {batch}: one forward {1000 * forward:.2f} ms")
            for name, seconds in took.items():
                line = f"  {name:30} {seconds / forward:7.2f} forwards"
                if name in literally:
                    forwards = literally[name] / forward_then
                    line += (
                        f"; literal {forwards:8.1f} forwards, {forwards * forward / seconds:6.1f} times as long"
                    )
                print(line)
            for name in ("MAD last layer", "GRAD2 all-ones"):
                print(f"  {name}: ten strengths take {took[f'{name}, 10 strengths'] / took[name]:.3f} times one")
    for classes in (10, 100):
        print(f"\n{modelguard(classes)}")


if __name__ == "__main__":
    main()
