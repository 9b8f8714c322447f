"""The common part of the data-free attacks: a generator network makes the pictures that are sent; the main loop.

DFME and MAZE train the generator to produce pictures on which clone and victim disagree. The victim gives no gradient, so
the gradient is estimated from its answers to the generated picture and to a few pictures nearby, all sent in one batch
(`ZerothOrder`). DisGUIDE trains it without queries, see `disguide.py`.
"""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcp_core.attacks.base import (
    ATTACK_STATE,
    PULSE,
    SAMPLE,
    Attack,
    Event,
    LossMeans,
    Saver,
    Theft,
    Timed,
    sample,
)
from dcp_core.attacks.oracle import AttackError, NanAnswer, Oracle, full_precision, in_chunks
from dcp_core.attacks.replay import Recent, Replay
from dcp_core.attacks.zeroth_order import Generator, estimate_gradient, probes, to_range
from dcp_core.defenses.base import parameter
from dcp_core.precision import autocast

TIMED_ITERATIONS, TIMED_BATCH = 2, 32  # of the small attack that is timed to estimate the duration
ANSWER_FLOOR = 1e-12  # smallest posterior of which the logarithm is taken


class Run:
    """The state of one data-free attack: networks, optimizers, replay memory, random numbers."""

    def __init__(self, attack: "DataFree", theft: Theft) -> None:
        self.oracle, self.clone, self.device = theft.oracle, theft.clone, theft.oracle.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(theft.seed)
            generator = Generator(attack.latent, attack.width, *theft.oracle.shape[1:])
        self.generator = generator.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.clone.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.clone_optimizer = torch.optim.SGD(
            self.clone.parameters(), attack.lr_clone, momentum=0.9, weight_decay=5e-4
        )
        self.generator_optimizer = attack.generator_optimizer(self.generator)
        self.replay = attack.memory(theft.oracle)
        self.rng = torch.Generator(self.device)
        self.seed, self.iteration, self.batch, self.latent = theft.seed, 0, attack.batch, attack.latent
        self.shown: tuple[Tensor, Tensor] | None = None

    def begin(self, factor: float) -> None:
        """Set the learning rates, and seed the random numbers of this iteration with (seed, iteration)."""
        self.rng.manual_seed(self.seed * 1_000_003 + self.iteration)
        for optimizer in (self.clone_optimizer, self.generator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("full_lr", group["lr"]) * factor

    def draw(self) -> Tensor:
        """Generate a batch of pictures before tanh, (N, 3, H, W), with gradients."""
        noise = torch.randn(self.batch, self.latent, device=self.device, generator=self.rng)
        with autocast(self.device):
            return self.generator(noise).float()

    def state(self) -> dict[str, Any]:
        """The state as tensors and plain values."""
        return {
            "iteration": self.iteration,
            "oracle": self.oracle.state(),
            "clone": self.clone.state_dict(),
            "generator": self.generator.state_dict(),
            "clone_optimizer": self.clone_optimizer.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "replay": self.replay.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.iteration = int(state["iteration"])
        self.oracle.load_state(state["oracle"])
        for name in ("clone", "generator", "clone_optimizer", "generator_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.replay.load_state(state["replay"])


class DataFree(Attack):
    """Base of the data-free attacks, which differ in their parameters, losses, optimizers and replay memory."""

    # Parameters that every subclass declares with `parameter(...)`. This class is no dataclass, so these are no fields.
    batch: int
    lr_clone: float
    lr_generator: float
    latent: int
    width: int

    @property
    def queries_per_iteration(self) -> int:
        """Number of queries of one full iteration."""
        raise NotImplementedError

    def generator_optimizer(self, generator: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of the generator."""
        raise NotImplementedError

    def memory(self, oracle: Oracle) -> Replay:
        """An empty memory for pictures that are replayed. Without an override, it keeps none."""
        return Recent(0, oracle.shape, oracle.classes, oracle.device)

    def schedule(self, done: float) -> float:
        """Factor on both learning rates after a share `done` (0 to 1) of the iterations."""
        raise NotImplementedError

    def prepare(self, theft: Theft) -> None:
        """Change the thief's clone before the attack, if it needs another one."""

    def disagreement(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Disagreement of clone (logits (N, K)) and victim (answers (N, K)) on each picture, (N,)."""
        raise NotImplementedError

    def iterate(self, run: Run) -> dict[str, Tensor]:
        """Do one iteration; returns its losses by name."""
        raise NotImplementedError

    def seconds(self, budget: int, timed: Timed) -> float:
        """See `Attack`. Two iterations are timed after a warm-up, with a batch of at most `TIMED_BATCH`."""
        smaller: Any = {"batch": max(2, min(self.batch, TIMED_BATCH))}
        small = dataclasses.replace(self, **smaller)
        events = timed(small, (1 + TIMED_ITERATIONS) * small.queries_per_iteration)
        first, last = events[0], events[-1]
        done = (last[0].queries - first[0].queries) / small.queries_per_iteration
        iteration = (last[1] - first[1]) / done * self.batch / small.batch
        return budget / self.queries_per_iteration * iteration

    def check(self, theft: Theft) -> None:
        """See `Attack.check`."""
        height, breadth = theft.oracle.shape[1:]
        if height % 4 or breadth % 4:
            raise AttackError(
                f"{self.title} generates pictures whose sides are multiples of 4, not {height}x{breadth}"
            )
        if theft.oracle.budget < self.queries_per_iteration:
            raise AttackError(
                f"one iteration of {self.title} takes {self.queries_per_iteration} queries and the budget is "
                f"{theft.oracle.budget}: raise it, or lower the batch size"
            )

    def train_clone(self, run: Run, pixels: Tensor, answers: Tensor) -> Tensor:
        """One training step of the clone on answered pictures; returns the loss."""
        run.clone.train(len(pixels) == self.batch)  # a smaller last batch does not update the batch statistics
        with autocast(run.device):
            logits = run.clone(pixels.contiguous(memory_format=torch.channels_last))
        loss = self.disagreement(logits.float(), answers).mean()
        run.clone_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.clone_optimizer.step()
        run.clone.train()
        return loss.detach()

    def ask(self, run: Run) -> tuple[Tensor, Tensor]:
        """Generate and query a batch, cut to the queries left; returns pixels (n, 3, H, W) and answers (n, K)."""
        with torch.no_grad():
            pixels = to_range(run.draw())
        answers = run.oracle.query(pixels)
        run.shown = sample(pixels[: len(answers)]), answers[:SAMPLE].cpu()
        return pixels[: len(answers)], answers

    def _steps(self, theft: Theft) -> Iterator[Event]:
        self.prepare(theft)
        run, oracle = Run(self, theft), theft.oracle
        saver = Saver(theft.folder / ATTACK_STATE if theft.folder else None, theft.save_every)
        state = saver.load(run.device)
        if state is not None:
            run.load_state(state)
        cost = self.queries_per_iteration
        total = oracle.budget // cost
        every = max(1, total // theft.logs)
        tally, last = LossMeans(), time.monotonic()
        try:
            while oracle.left >= cost:
                run.begin(self.schedule(run.iteration / total))
                tally.add(self.iterate(run))
                run.iteration += 1
                saver.tick(run.state)
                log = run.iteration % every == 0 and oracle.left > 0
                if log or time.monotonic() - last > PULSE:
                    event = Event("stealing", oracle.used / oracle.budget, oracle.used, tally.means(run.iteration))
                    yield from saver.yielding(_scored(event, theft, run) if log else event, run.state)
                    last = time.monotonic()
            if (
                oracle.left
            ):  # not enough queries for an iteration: only train the clone, the last time with a smaller batch
                run.begin(self.schedule(1.0))
            while oracle.left:
                tally.add({"clone": self.train_clone(run, *self.ask(run))})
        except NanAnswer:
            saver.write(run.state)
            raise
        saver.write(run.state)
        run.clone.eval()
        yield _scored(Event("done", 1.0, oracle.used, tally.means(run.iteration)), theft, run)


@dataclass(frozen=True)
class ZerothOrder(DataFree):
    """Base of DFME and MAZE."""

    batch: int = parameter(
        256, "N", "Number of pictures in a batch.", low=2, high=1024, step=1, label="Pictures in a batch"
    )
    directions: int = parameter(
        1,
        "m",
        "Number of random directions in one gradient estimate.",
        low=1,
        high=100,
        step=1,
        label="Directions probed per gradient",
    )
    probe: float = parameter(
        1e-3,
        "ε",
        "Distance of the pictures between which the gradient is estimated.",
        low=1e-5,
        high=0.1,
        step=1e-4,
        expert=True,
        label="Length of a probing step",
    )
    clone_steps: int = parameter(
        5,
        "n_c",
        "Training steps of the clone in an iteration.",
        low=1,
        high=50,
        step=1,
        label="Clone steps per iteration",
    )
    lr_clone: float = parameter(
        0.1, "η_c", "Learning rate of the clone.", low=1e-4, high=1.0, label="Learning rate of the clone"
    )
    lr_generator: float = parameter(
        1e-4,
        "η_g",
        "Learning rate of the generator.",
        low=1e-6,
        high=1.0,
        step=1e-4,
        label="Learning rate of the generator",
    )
    latent: int = parameter(
        256,
        "z",
        "How many random numbers a picture is generated from.",
        low=2,
        high=1024,
        step=1,
        expert=True,
        label="Random numbers per picture",
    )
    width: int = parameter(
        128,
        "w",
        "Number of channels of the generator; fewer are faster on a CPU.",
        low=2,
        high=512,
        step=2,
        expert=True,
        label="Channels of the generator",
    )
    train_generator: bool = parameter(
        True,
        "G",
        "Train the generator. If off, it stays random: a control that uses the same number of queries.",
        choices=(True, False),
        expert=True,
        before=True,
        label="Train the generator",
    )

    def improve_generator(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """One training step of the generator, to increase the disagreement.

        If `train_generator` is off, the same queries are sent, but the generator does not change.

        Returns:
            pixels (N, 3, H, W), the answers to them (N, K) and the mean disagreement.
        """
        before = run.draw()
        points, units = probes(before.detach(), self.directions, self.probe, run.rng)
        pixels = to_range(points)
        answers = run.oracle.query(pixels)
        run.clone.eval()  # fixed batch statistics, so that a value does not depend on the rest of the batch
        with torch.no_grad(), full_precision():
            values = -self.disagreement(in_chunks(run.clone, pixels), answers)
        run.clone.train()
        if self.train_generator:
            run.generator_optimizer.zero_grad(set_to_none=True)
            before.backward(estimate_gradient(values, units, self.probe) / self.batch)
            run.generator_optimizer.step()
        return pixels[: self.batch], answers[: self.batch], -values[: self.batch].mean()


def centred_log(answers: Tensor) -> Tensor:
    """Logits (N, K) with mean 0 from posteriors (N, K)."""
    logits = answers.clamp_min(ANSWER_FLOOR).log()
    return logits - logits.mean(1, keepdim=True)


def _scored(event: Event, theft: Theft, run: Run) -> Event:
    images, answers = run.shown or (None, None)
    return dataclasses.replace(event, scores=theft.score(), images=images, answers=answers)
