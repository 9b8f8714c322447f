"""Check a given network on labelled test pictures before it becomes a victim, and name likely causes of a low accuracy.

Causes are measured: the network is asked again with another preprocessing, and its answers are compared with other orders of
the classes.
"""

import dataclasses
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dcp_core.evaluation.metrics import wilson
from dcp_core.making.progress import Progress
from dcp_core.models.given_onnx import OUTPUTS, to_logits
from dcp_core.models.inference import to_pixels
from dcp_core.models.preprocessing import Preprocessing

SAMPLE, SMALL_SAMPLE = 256, 96  # pictures on which alternatives are tried; the second above `LARGE` pixels
LARGE = 64
CHUNK = 64
NOTABLE = 2.0  # smallest gain in accuracy, in percentage points, that is worth a sentence
SURE = 2.0  # a gain must also be at least so many standard deviations of its paired difference
FEW = 200  # test pictures below which the check says that its interval is wide
FEW_CLASSES = 3  # with so few classes, nearly uniform outputs could look like a softmax of probabilities
SHOWN = 20  # classes whose order is printed in full
SHOWN_WAYS = 3  # equally good preprocessings that are named
BY = {"you": "as given", "the file": "as the file says", "trying": "the best of those that were tried"}
"""Origins of a preprocessing -> their names for users."""


class Network(Protocol):
    """A network that can be run with any preprocessing."""

    def __call__(self, pixels: Tensor, how: Preprocessing) -> Tensor:
        """Outputs (N, K) of pixels (N, 3, S, S) in [0, 1]."""


class CheckError(ValueError):
    """A network and test pictures that do not fit together. The message says why, and what to do."""


@dataclass(frozen=True)
class Check:
    """The result of a check on the test pictures.

    Args:
        how: the preprocessing.
        chosen: who chose it, one of `BY`.
        outputs: what the network returns, one of `given_onnx.OUTPUTS`.
        seen: what the outputs look like, in a sentence.
        accuracy: in percent, over `count` pictures, with its 95 % interval.
        chance: the share of the most frequent class in percent.
        findings: sentences on likely mistakes, each with what was measured.
        tried: accuracy in percent on a sample, by the name of each preprocessing that was tried.
        logits: clean logits (N, K) on the test pictures.
    """

    how: Preprocessing
    chosen: str
    outputs: str
    seen: str
    accuracy: float
    interval: tuple[float, float]
    chance: float
    count: int
    findings: tuple[str, ...]
    tried: Mapping[str, float]
    logits: Tensor = field(repr=False)

    def words(self) -> list[str]:
        """The result in sentences, findings last."""
        low, high = self.interval
        return [
            f"accuracy {self.accuracy:.2f} % ({low:.1f} to {high:.1f}) on {self.count:,} test pictures; always naming the "
            f"most frequent class: {self.chance:.1f} %",
            f"preprocessing ({BY[self.chosen]}): {self.how.words()}",
            f"outputs: {self.outputs} ({self.seen})",
            *self.findings,
        ]


def check(
    network: Network,
    images: Tensor,
    labels: Tensor,
    classes: tuple[str, ...],
    how: Preprocessing,
    *,
    chosen: str = "you",
    outputs: str | None = None,
    alternatives: Mapping[str, Preprocessing] | None = None,
) -> Generator[Progress, None, Check]:
    """Measure a network on test pictures.

    Args:
        network: for example a `GivenNetwork`.
        images: uint8 (N, 3, S, S), cropped and resized, in random order.
        labels: integers (N,).
        classes: names of the network's outputs.
        how: the preprocessing; with `chosen` "trying", it is replaced by the best of the alternatives.
        chosen: who chose it, one of `BY`.
        outputs: what the network returns. Default: inferred from its answers.
        alternatives: preprocessings to try on a sample.

    Raises:
        CheckError: if labels and outputs do not fit together.
        OnnxError: if the network does not answer.
    """
    if outputs not in (None, *OUTPUTS):
        raise CheckError(f"outputs are {' or '.join(OUTPUTS)}, not {outputs}")
    size = (SAMPLE if images.shape[-1] <= LARGE else SMALL_SAMPLE) if alternatives else CHUNK
    sample, truth = images[:size], labels[:size]
    ways = dict(alternatives or {})
    if chosen != "trying":
        ways = {BY[chosen]: how} | {name: way for name, way in ways.items() if way != how}
    samples: dict[str, Tensor] = {}
    for number, (name, way) in enumerate(ways.items()):
        words = f"trying the preprocessing: {name}" if len(ways) > 1 else "answering the first pictures"
        yield Progress(words, 0.4 * number / len(ways))
        samples[name] = network(to_pixels(sample), way)
        _check_classes(samples[name], labels, classes)
    right = {name: each.argmax(1) == truth for name, each in samples.items()}
    best = _best(samples, ways, truth)
    how = ways[best] if chosen == "trying" else how
    answers = yield from _answers(network, images, how)
    found, seen = kind_of(answers)
    outputs = outputs or found
    if outputs == "probabilities" and float(answers.min()) < 0:
        raise CheckError("the outputs have negative numbers, so they are no probabilities: use --outputs logits")
    logits = to_logits(answers, outputs)
    correct = answers.argmax(1) == labels
    accuracy = 100 * float(correct.double().mean())
    low, high = (float(each) for each in wilson(accuracy, len(labels)))
    chance = _chance(labels)
    findings = _findings(answers, labels, classes, low, chance, len(ways) if chosen == "trying" else 0)
    if chosen == "trying" and low > chance:
        findings += _uncertain(right, best)
    if outputs == "logits" and found == "probabilities":
        findings.append(
            "softmax twice: the outputs are probabilities, but they are used as logits, so that posteriors become nearly "
            "uniform. Leave out --outputs logits"
        )
    if chosen != "trying" and (gain := _gain(right[best], right[BY[chosen]])):
        findings.append(
            f"another preprocessing fits better: {_difference(how, ways[best])} gives {gain[1]:.1f} % instead of "
            f"{gain[0]:.1f} % on {len(sample)} of the pictures"
        )
    tried = {name: round(_percent(each), 2) for name, each in right.items()}
    yield Progress("done", 1.0)
    return Check(
        how,
        chosen,
        outputs,
        seen,
        round(accuracy, 2),
        (low, high),
        chance,
        len(labels),
        tuple(findings),
        tried,
        logits,
    )


def _best(samples: Mapping[str, Tensor], ways: Mapping[str, Preprocessing], truth: Tensor) -> str:
    """The preprocessing with the most correct guesses.

    Among equally good ones, those with pixel values from 0 to 255 come last, because large values make every answer more
    confident; then the one that gives the true classes the highest probability is taken. If even the best one is near
    chance, the classes may be in another order: then the one is taken that is best after any reordering of the classes.

    Args:
        samples: outputs (N, K) by the name of the preprocessing.
        truth: the true classes, integers (N,).
    """
    guesses = {name: answers.argmax(1) for name, answers in samples.items()}
    scores = {
        name: (int((guesses[name] == truth).sum()), -ways[name].highest, _likely(samples[name], truth))
        for name in samples
    }
    best = max(scores, key=scores.__getitem__)
    low, _ = wilson(100 * scores[best][0] / len(truth), len(truth))
    classes = samples[best].shape[1]
    # With few pictures for each class, some order always fits.
    if float(low) <= _chance(truth) and len(truth) >= 4 * classes:
        fits = {
            name: int((_order(guess, truth, classes)[guess] == truth).sum()) for name, guess in guesses.items()
        }
        best = max(fits, key=fits.__getitem__)
    return best


def _likely(answers: Tensor, truth: Tensor) -> float:
    """Mean logarithm of the probability of the true class, for outputs (N, K)."""
    posteriors = to_logits(answers, kind_of(answers)[0]).log_softmax(1)
    return float(posteriors.gather(1, truth[:, None]).mean())


def _chance(labels: Tensor) -> float:
    """The share of the most frequent class in percent."""
    return 100 * float(labels.bincount().max()) / len(labels)


def alternatives(how: Preprocessing, channels: int, whole: bool) -> dict[str, Preprocessing]:
    """Preprocessings that are common mistakes for each other, by name.

    Args:
        how: its size, crop and layout are kept.
        channels: number of channels of the network's input, 1 or 3.
        whole: whether the input has whole numbers, which allows values from 0 to 255 only.
    """
    plain: dict[str, Any] = {"highest": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "order": "RGB"}
    presets = {"bytes": Preprocessing.PRESETS["bytes"]} if whole else Preprocessing.PRESETS
    orders = ("grey",) if channels == 1 else ("RGB", "BGR")
    return {
        f"{name}, {order}": dataclasses.replace(how, **plain | preset | {"order": order})
        for name, preset in presets.items()
        for order in orders
    }


def kind_of(answers: Tensor) -> tuple[str, str]:
    """The kind of outputs (N, K), one of `given_onnx.OUTPUTS`, and the reason in words."""
    sums, least = answers.double().sum(1), float(answers.min())
    if least >= -1e-6 and float((sums - 1).abs().max()) < 1e-3:
        return "probabilities", "none is negative, and each row sums to 1"
    return (
        "logits",
        f"rows sum to {float(sums.min()):.3g} to {float(sums.max()):.3g}, the least value is {least:.3g}",
    )


def _answers(network: Network, images: Tensor, how: Preprocessing) -> Generator[Progress, None, Tensor]:
    parts = []
    for start in range(0, len(images), CHUNK):
        yield Progress("answering the test pictures", 0.4 + 0.6 * start / len(images))
        parts.append(network(to_pixels(images[start : start + CHUNK]), how))
    return torch.cat(parts)


def _check_classes(answers: Tensor, labels: Tensor, classes: tuple[str, ...]) -> None:
    if answers.shape[1] != len(classes):
        raise CheckError(
            f"the network has {answers.shape[1]} outputs, but there are {len(classes)} classes: give the names of all "
            "outputs in their order with --classes FILE, one name a line"
        )
    if int(labels.max()) >= len(classes):
        raise CheckError(f"the largest label is {int(labels.max())}, but the network has {len(classes)} outputs")


def _findings(
    answers: Tensor, labels: Tensor, classes: tuple[str, ...], low: float, chance: float, tried: int
) -> list[str]:
    """Sentences on likely mistakes. `tried`: how many preprocessings the best was taken of, 0 if one was given."""
    found = []
    if low <= chance:
        all_tried = f", with any of the {tried} usual preprocessings" if tried else ""
        found.append(
            f"near chance: this accuracy is not better than always naming the most frequent class{all_tried}. Check "
            "preprocessing, order of the classes, and whether these are the right pictures"
        )
    named, count = answers.argmax(1).mode().values, len(labels)
    same = 100 * float((answers.argmax(1) == named).double().mean())
    if same > max(80.0, chance + 20):
        found.append(f"the network names {classes[int(named)]} for {same:.0f} % of the pictures")
    if order := _other_order(answers.argmax(1), labels, classes):
        found.append(order)
    if _softmax_twice(answers):
        found.append(
            "softmax twice: the outputs are the softmax of probabilities, which makes them nearly uniform. Remove one "
            "softmax and export again"
        )
    if count < FEW:
        found.append(f"only {count} test pictures: the interval is wide")
    return found


def _uncertain(right: Mapping[str, Tensor], best: str) -> list[str]:
    """A sentence if other preprocessings are not surely worse than the best.

    Args:
        right: for each preprocessing (N,) bool, whether a picture of the sample is classified correctly.
    """
    equal = [name for name in right if name != best and _gain(right[best], right[name]) is None]
    if not equal:
        return []
    shown = ", ".join(f"{name} ({_percent(right[name]):.1f} %)" for name in equal[:SHOWN_WAYS])
    return [
        f"the preprocessing is uncertain: {best} was taken ({_percent(right[best]):.1f} % of a sample), but others are not "
        f"surely worse: {shown}{', ...' if len(equal) > SHOWN_WAYS else ''}. If you know the right one, give it"
    ]


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def _other_order(guesses: Tensor, labels: Tensor, classes: tuple[str, ...]) -> str:
    """A sentence if the outputs fit much better in another order of the classes.

    The order is found on one half of the pictures and measured on the other, because on the same pictures it always fits.
    """
    half, count = len(labels) // 2, len(classes)
    order = _order(guesses[:half], labels[:half], count)
    gain = _gain(order[guesses[half:]] == labels[half:], guesses[half:] == labels[half:])
    if not gain or gain[1] - gain[0] < 5:
        return ""
    changed = [k for k in range(count) if int(order[k]) != k]
    if count <= SHOWN:
        words = f"the order of the outputs seems to be {', '.join(classes[k] for k in order.tolist())}"
    else:
        few = ", ".join(f"output {k} is {classes[int(order[k])]}" for k in changed[:5])
        words = f"{len(changed)} outputs seem to be in other places: {few}, ..."
    return (
        f"labels in another order: {words}. The accuracy would be {gain[1]:.1f} % instead of {gain[0]:.1f} % "
        f"on {len(labels) - half} pictures that were not used to find this order. Give the "
        "names in the order of the outputs with --classes FILE"
    )


def _order(guesses: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The class (K,) that each output stands for if it is chosen so that most guesses are correct."""
    table = torch.zeros(classes, classes)
    table.index_put_((guesses, labels), torch.ones(len(labels)), accumulate=True)
    # Without evidence for another class, an output keeps its own.
    rows, columns = linear_sum_assignment((table + 1e-3 * torch.eye(classes)).numpy(), maximize=True)
    return torch.from_numpy(columns)[torch.from_numpy(rows).argsort()]


def _softmax_twice(answers: Tensor) -> bool:
    """Whether outputs (N, K) are the softmax of probabilities.

    The logarithm of a softmax is its argument plus a constant. The constant follows from the sum 1 of probabilities; what
    remains is then not negative.
    """
    if kind_of(answers)[0] != "probabilities" or float(answers.min()) <= 0:
        return False
    logs = answers.double().log()
    inner = logs + (1 - logs.sum(1, keepdim=True)) / logs.shape[1]
    # Few classes of an unsure network could pass by chance, so one row must be sure; the more classes, the less.
    return float(inner.min()) >= -1e-3 and float(inner.max()) > (0.9 if logs.shape[1] <= FEW_CLASSES else 0.5)


def _gain(better: Tensor, base: Tensor) -> tuple[float, float] | None:
    """Accuracies in percent of `base` and `better`, if that of `better` is significantly higher; otherwise None.

    Both arguments are bool (N,): whether each of the same N pictures is classified correctly.
    """
    won, lost = int((better & ~base).sum()), int((base & ~better).sum())
    gain = 100 * (won - lost) / len(base)
    if gain < NOTABLE or won - lost <= SURE * math.sqrt(won + lost):
        return None
    return _percent(base), _percent(better)


def _difference(before: Preprocessing, after: Preprocessing) -> str:
    """How the second of two preprocessings differs from the first, in words, with its command-line options."""
    words = []
    if before.order != after.order:
        words.append(f"the channel order {after.order} (--order {after.order})")
    if (before.highest, before.mean, before.std) != (after.highest, after.mean, after.std):
        numbers = [",".join(f"{each:g}" for each in values) for values in (after.mean, after.std)]
        words.append(
            f"values from 0 to {after.highest:g} with mean {numbers[0]} and std {numbers[1]} "
            f"(--range {after.highest:g} --mean {numbers[0]} --std {numbers[1]})"
        )
    return " and ".join(words)
