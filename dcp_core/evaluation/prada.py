"""PRADA: detects a model stealing attack from the distribution of a client's queries (Juuti, Szyller, Marchal and Asokan,
"PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019, Algorithm 3)."""

import warnings
from dataclasses import dataclass, field

import numpy as np

DELTA = 0.9  # default threshold of W; the paper uses 0.90 to 0.96
FEWEST = 100  # smallest number of distances for a test
MOST_KEPT = 1000  # largest number of pictures kept for comparison, all classes together; the paper keeps all
MOST_DISTANCES = 5000  # only the newest are tested; the test of Shapiro and Wilk is not defined for more


@dataclass
class Prada:
    """The state of PRADA for one client.

    Each new picture's distance is the smallest to the kept pictures for which the victim predicted the same class. A
    customer's distances are about normally distributed, those of pictures made or collected for an attack are not. The
    test is the statistic W of Shapiro and Wilk: 1 for a normal distribution, an attack below `delta`.

    Distances are Euclidean between pixels, as in the paper; W does not depend on their unit. Distances between posteriors
    would be smaller to keep, but they follow the victim's confidence more than the choice of pictures.
    """

    delta: float = DELTA
    distances: list[float] = field(default_factory=list)
    kept: np.ndarray | None = None  # (M, D) pixels, the growing sets of all classes
    members: dict[int, list[int]] = field(default_factory=dict)  # rows of `kept` by class
    added: dict[int, list[float]] = field(default_factory=dict)  # distances of the kept pictures, by class
    thresholds: dict[int, float] = field(default_factory=dict)

    def see(self, pictures: np.ndarray, classes: np.ndarray) -> None:
        """Add a client's next pictures, in the order in which they were sent.

        Args:
            pictures: pixels (N, ...) of any type, in which they are also kept.
            classes: the classes (N,) that the victim predicts, before the defense.
        """
        new = pictures.reshape(len(pictures), -1)
        kept = new[:0] if self.kept is None else self.kept
        between = _distances(new, np.concatenate([kept, new]))
        rows: list[int] = []  # indices of the pictures in `new` that are kept
        for row, each in enumerate(classes.tolist()):
            near = self.members.setdefault(each, [])
            columns = [column if column < len(kept) else len(kept) + rows[column - len(kept)] for column in near]
            distance = float(between[row, columns].min()) if near else None
            if distance is not None:
                self.distances.append(distance)
            if (distance is None or distance > self.thresholds[each]) and len(kept) + len(rows) < MOST_KEPT:
                near.append(len(kept) + len(rows))
                rows.append(row)
                self._grow(each, distance)
        self.kept = np.concatenate([kept, new[rows]])
        del self.distances[:-MOST_DISTANCES]

    def _grow(self, each: int, distance: float | None) -> None:
        """Raise the threshold of a class: mean minus standard deviation of the distances of its kept pictures."""
        added = self.added.setdefault(each, [])
        if distance is not None:
            added.append(distance)
            self.thresholds[each] = max(self.thresholds[each], float(np.mean(added) - np.std(added)))
        else:
            self.thresholds[each] = 0.0

    @property
    def statistic(self) -> float | None:
        """W (0 to 1) of the distances within three standard deviations of their mean; None before there are 100, or if
        all are equal."""
        values = np.array(self.distances)
        if len(values) < FEWEST:
            return None
        values = values[np.abs(values - values.mean()) <= 3 * values.std()]
        if np.ptp(values) == 0:
            return None
        from scipy import stats  # takes longer to import than a whole server without torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning about the p-value, which is not used here
            return float(stats.shapiro(values).statistic)

    @property
    def alarm(self) -> bool:
        """Whether the queries look like an attack: W is below `delta`."""
        statistic = self.statistic
        return statistic is not None and statistic < self.delta


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M) between rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(squares.clip(min=0))
