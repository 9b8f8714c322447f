"""Live charts of one answer: what its defense does, for every value of every slider."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcp_core.answers import Answers, detector_at, noise_at
from dcp_core.defenses import Defense
from dcp_core.defenses.base import Answer
from dcp_core.evaluation.metrics import PerAnswer, per_answer
from dcp_core.evaluation.parameter_sweep import Sweep, movable, sweep_parameter
from dcp_core.evaluation.sentences import about_answer
from dcp_core.plots.answers import describe_answer
from dcp_core.plots.style import CLEAN
from dcp_core.ui.live.panels import Axis, Line, Quantity, axis, bars, gauge, plot, sentence, tile, tiles, word_tile
from dcp_core.ui.page import experts

SHOWN = 10  # classes that have a bar of their own
FLOOR = 1e-6  # smallest probability on logarithmic axes
CURVE = 81  # points of a curve
LOG = [(-6.0, "≤1e-6"), (-4.0, "1e-4"), (-2.0, "0.01"), (0.0, "1")]


@dataclass(frozen=True)
class LiveAnswer:
    """One answer and, by the key of each slider, the answers for all values of that slider."""

    defense: Defense
    answers: Answers
    classes: tuple[str, ...]
    sweeps: Mapping[str, Sweep]

    @property
    def sliders(self) -> dict[str, tuple[float, Sequence[float]]]:
        """For each slider's key: its present value, and the values of its table. For `ui.live.live`."""
        return {
            key: (float(getattr(self.defense, key.removeprefix(f"{self.defense.name}_"))), sweep.values)
            for key, sweep in self.sweeps.items()
        }

    @property
    def clean(self) -> np.ndarray:
        """Clean posterior (K,)."""
        return self.answers.clean[0].numpy()

    @property
    def defended(self) -> np.ndarray:
        """Defended posterior (K,)."""
        return self.answers.defended[0].numpy()

    def quantity(self, of: Callable[[Defense, np.ndarray], Any]) -> Quantity:
        """Something that follows from a defense and its answer (K,), for every value of every slider."""
        now, tables = self.words(of)
        return Quantity(now, tables)

    def words(self, of: Callable[[Defense, np.ndarray], Any]) -> tuple[Any, dict[str, list[Any]]]:
        """As `quantity`: what it is now, and the tables."""
        tables = {
            key: [
                of(defense, answer) for defense, answer in zip(sweep.defenses, sweep.answers.numpy(), strict=True)
            ]
            for key, sweep in self.sweeps.items()
        }
        return of(self.defense, self.defended), tables

    def measured(self, which: str) -> Quantity:
        """A field of `PerAnswer`, as a quantity."""

        def of(answers: Tensor) -> list[float]:
            each: PerAnswer = per_answer(answers[:, None], self.answers.clean)
            return getattr(each, which)[:, 0].tolist()

        return Quantity(
            of(self.answers.defended)[0], {key: of(sweep.answers) for key, sweep in self.sweeps.items()}
        )


def live_answer(
    defense: Defense, answers: Answers, classes: tuple[str, ...], *, guide: Tensor | None, seed: int
) -> LiveAnswer:
    """Compute the answers for all values of a defense's sliders.

    Args:
        answers: clean and defended answer to one picture, with this defense.
        guide: the guide (1, K) of a model-based defense.
        seed: seed with which the answers were made.
    """
    sweeps = {
        f"{defense.name}_{name}": sweep_parameter(defense, name, answers.logits[0], guide=guide, seed=seed)
        for name in movable(defense)
        if experts() or not defense.parameters()[name].expert
    }
    return LiveAnswer(defense, answers, classes, sweeps)


def answer_panels(live: LiveAnswer) -> list[dict[str, Any]]:
    """Panels: a sentence on the change, the l1 distance, three or four numbers, and bars of clean and defended answer."""
    before = per_answer(live.answers.clean, live.answers.clean)
    help = "How far the answer was moved: Σ|y′ − y| (Eq. 2)."
    return [
        sentence(*live.words(lambda defense, y: about_answer(defense, live.clean, y, live.classes))),
        gauge("l1 distance", live.measured("l1"), 2, help),
        tiles(*_tiles(live, before)),
        _bars(live),
    ]


def _tiles(live: LiveAnswer, before: PerAnswer) -> list[dict[str, Any]]:
    first = int(before.top[0])

    def kept(_: Defense, y: np.ndarray) -> str:
        return "kept" if int(y.argmax()) == first else f"now {live.classes[int(y.argmax())]}"

    found = [
        tile("Largest probability", live.measured("confidence"), note=f"clean {float(before.confidence[0]):.3f}"),
        word_tile("Top class", *live.words(kept), note=f"clean {live.classes[first]}"),
    ]
    if experts():
        found.append(
            tile(
                "Entropy",
                live.measured("entropy"),
                note=f"clean {float(before.entropy[0]):.2f}",
                help="How unsure an answer is.",
                digits=2,
                unit=" nats",
            )
        )
    y_max = live.answers.clean.max()
    if live.defense.alpha(y_max) is not None:
        value = live.quantity(lambda defense, _: float(detector_at(defense, y_max)))
        found.append(
            tile(
                "Detector α",
                value,
                note="1: change, 0: keep",
                help="Output of the detector, Eq. 4: near 1, the answer is changed.",
            )
        )
    return found


def _bars(live: LiveAnswer) -> dict[str, Any]:
    """Bars of the classes that are ever among the most probable, and one of all others."""
    ever = np.max(
        [live.clean, live.defended, *(sweep.answers.numpy().max(0) for sweep in live.sweeps.values())], axis=0
    )
    chosen = np.argsort(-ever, kind="stable")[:SHOWN]
    chosen = chosen[np.argsort(-live.clean[chosen], kind="stable")]
    others = len(ever) - len(chosen)

    def rows(y: np.ndarray) -> np.ndarray:
        """(..., K) -> (..., rows)."""
        rest = np.maximum(0, 1 - y[..., chosen].sum(-1, keepdims=True))
        return np.concatenate([y[..., chosen], rest], -1) if others else y[..., chosen]

    names = [live.classes[k] for k in chosen] + ([f"{others} others"] if others else [])
    tables = {key: rows(sweep.answers.numpy()) for key, sweep in live.sweeps.items()}
    top = max(ever.max(), *(rows(live.clean)), *(rows(live.defended)))
    return bars(
        names,
        rows(live.clean).tolist(),
        Quantity(rows(live.defended), tables),
        named=len(chosen),
        scale=min(1.0, float(np.ceil(top * 10) / 10)),
        alt=describe_answer(live.classes, live.clean, live.defended),
    )


def detector_panel(live: LiveAnswer, alt: str) -> dict[str, Any]:
    """The detector's output for every y_max, with this answer's point. The defense must have a detector."""
    y_max = live.answers.clean.max()
    grid = torch.linspace(1 / len(live.classes), 1, CURVE)
    curve = live.quantity(lambda defense, _: detector_at(defense, grid))
    point = live.quantity(lambda defense, _: [[float(y_max)], [float(detector_at(defense, y_max))]])
    across = axis("largest probability y_max", 0.0, 1.0, 5)
    return plot(across, axis("α", 0.0, 1.0, 4), [], point, alt=alt, moving=(grid.tolist(), curve, CLEAN))


def noise_panel(live: LiveAnswer, alt: str) -> dict[str, Any]:
    """The noise for every probability, with the points of this answer's classes. The defense must have noise."""
    answer = Answer(live.answers.clean, live.answers.logits)
    grid = torch.linspace(0, 1, CURVE)
    curve = live.quantity(lambda defense, _: noise_at(defense, grid))
    points = live.quantity(lambda defense, _: [live.clean, _noise(defense, answer)])
    highest = np.max([points.now[1].max(), *(np.max(table) for table in curve.tables.values())])
    across, up = axis("clean probability y", 0.0, 1.0, 5), axis("r(y)", -0.5, max(0.1, float(highest)), 5)
    moving = (grid.tolist(), curve, CLEAN)
    return plot(across, up, [], points, alt=alt, moving=moving, names=live.classes)


def class_panel(live: LiveAnswer, alt: str) -> dict[str, Any]:
    """Defended against clean probability of every class, on logarithmic axes."""

    def log(values: np.ndarray) -> np.ndarray:
        return np.log10(values.clip(FLOOR))

    return plot(
        Axis("clean probability y (log scale)", -6, 0, LOG),
        Axis("defended probability y′ (log scale)", -6, 0, LOG),
        [Line([-6, 0], [-6, 0], CLEAN, "unchanged", "3 4")],
        live.quantity(lambda _, y: [log(live.clean), log(y)]),
        alt=alt,
        names=live.classes,
    )


def _noise(defense: Defense, answer: Answer) -> np.ndarray:
    noise = defense.noise(answer)
    assert noise is not None
    return noise[0].numpy()
