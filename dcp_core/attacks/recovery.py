"""Recovery: a thief who knows the defense estimates the clean answers.

The thief knows the defense and its parameters, but not the victim's clean posteriors. Therefore plausible clean
posteriors, the prior, are perturbed by the defense. From these pairs, the clean posterior is estimated with the nearest
perturbed answers (partial Bayes, after Tang et al., ModelGuard, USENIX Security 2024) or with a small network (a learned
inverse, after Chen et al., D-DAE, IEEE S&P 2023; `denoiser.py` has their network).

For a defense that treats all classes equally (`Defense.symmetric`), rows are sorted, so that one table is valid for all
orders of the classes. Centroids of a codebook belong to a class, so those rows are not sorted. A thief who knows a codebook
knows its centroids.
"""

from collections.abc import Generator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.defenses.base import Defense

TABLE = 100_000  # rows that are drawn from the wide prior
NEIGHBOURS = 8
STEPS, BATCH, HIDDEN = 3000, 256, 128  # training steps, batch size and width of the learned inverse
TEMPERATURES = tuple(1.15**power for power in range(-24, 9))  # 0.03 to 3.1
JITTER = 1.0  # standard deviation of the noise on the clone's logits
CALIBRATING = 2000  # largest number of pictures on which the temperature is chosen
REPORT = 50  # training steps between two reports

Working = Generator[float, None, Tensor]
"""Yields the fraction of the work that is done, and returns estimated clean posteriors (N, K)."""


def finished(working: Working) -> Tensor:
    """The result of a recovery, without its reports."""
    while True:
        try:
            next(working)
        except StopIteration as end:
            return end.value


def prior(count: int, classes: int, rng: torch.Generator) -> Tensor:
    """Plausible clean posteriors (count, K), from uniform to very confident: softmax of Gaussian logits.

    In 70 % of the rows, a random amount is added to the logit of one class, because trained networks are often confident.
    """
    scale = torch.empty(count, 1).uniform_(-1.0, 1.8, generator=rng).exp()
    logits = torch.randn(count, classes, generator=rng) * scale
    boost = torch.rand(count, generator=rng) * 12 * (torch.rand(count, generator=rng) < 0.7)
    top = torch.randint(classes, (count,), generator=rng)
    return (logits + boost[:, None] * F.one_hot(top, classes)).softmax(1)


def own_prior(logits: Tensor, asked: Tensor, answers: Tensor, defense: Defense, seed: int) -> Tensor:
    """Posteriors (TABLE, K): one half from the answers of the thief's own clone, one half from the wide prior.

    A clone is less confident than its victim. The thief knows the answers and the defense, so he chooses the temperature at
    which the clone's defended answers are nearest to the victim's (mean l1). Noise on the logits makes the clone's answers
    dense enough for a table. The wide half helps where the clone is wrong.

    Args:
        logits: logits (n, K) of the clone for pictures of the pool.
        asked: logits (N, K) of the clone for the pictures that were queried.
        answers: the victim's answers (N, K) to them.
        seed: seed of all random numbers.
    """
    asked, answers = asked[:CALIBRATING], answers[:CALIBRATING].to(asked)
    rng = torch.Generator().manual_seed(seed)

    def distance(temperature: float) -> float:
        defended = defense((asked / temperature).softmax(1), generator=torch.Generator().manual_seed(seed))
        return float((defended - answers).abs().sum(1).mean())

    count, classes = TABLE // 2, logits.shape[1]
    drawn = logits[torch.randint(len(logits), (count,), generator=rng)] / min(TEMPERATURES, key=distance)
    own = (drawn + JITTER * torch.randn(count, classes, generator=rng)).softmax(1)
    return torch.cat([own, prior(count, classes, rng)])


def pairs(
    clean: Tensor | None, count: int, classes: int, defense: Defense, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Perturbed rows as `arranged` sorts them, and their clean rows with the same order of classes, both (n, K).

    Args:
        clean: rows of the prior, (n, K). Default: `count` rows of the wide prior.
    """
    clean = prior(count, classes, rng) if clean is None else clean.cpu()
    perturbed, order = arranged(defense(clean, generator=rng), defense)
    return perturbed, clean.gather(1, order)


def arranged(answers: Tensor, defense: Defense) -> tuple[Tensor, Tensor]:
    """Sort rows in descending order. Returns the rows and their order of classes, both (N, K).

    For a defense that does not treat all classes equally, rows are not sorted.
    """
    if defense.symmetric:
        return answers.sort(dim=1, descending=True, stable=True)
    return answers, torch.arange(answers.shape[1], device=answers.device).expand_as(answers)


def merged(perturbed: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct perturbed rows, and for each the mean of its clean rows."""
    rows, which, count = perturbed.unique(dim=0, return_inverse=True, return_counts=True)
    total = clean.new_zeros(rows.shape).index_add(0, which, clean)
    return rows, total / count[:, None]


def partial_bayes(
    answers: Tensor, defense: Defense, seed: int, clean: Tensor | None = None, rows: int = TABLE
) -> Working:
    """The expected clean posterior (N, K) for each answer: a weighted mean over the nearest rows of a table.

    Rows with equal perturbed answers, which a codebook produces, are merged. The weights are exp(-d^2 / 2 d_0^2), where d is
    the distance of a row and d_0 that of the nearest row.

    Args:
        answers: defended posteriors (N, K).
        defense: the known defense.
        seed: seed of the table.
        clean: posteriors (n, K) of the prior. Default: `rows` rows of the wide prior.
    """
    rng = torch.Generator().manual_seed(seed)
    perturbed, expected = merged(*pairs(clean, rows, answers.shape[1], defense, rng))
    perturbed, expected = perturbed.to(answers.device), expected.to(answers.device)
    given, order = arranged(answers, defense)
    found = []
    for part in given.split(1000):
        distance, nearest = torch.cdist(part, perturbed).topk(min(NEIGHBOURS, len(perturbed)), largest=False)
        weights = (-(distance**2) / (2 * distance[:, :1] ** 2 + 1e-12)).softmax(1)
        found.append((weights[..., None] * expected[nearest]).sum(1))
        yield min(1.0, 1000 * len(found) / len(given))
    return torch.zeros_like(answers).scatter(1, order, torch.cat(found))


def learned_inverse(
    answers: Tensor, defense: Defense, seed: int, clean: Tensor | None = None, steps: int = STEPS
) -> Working:
    """Clean posteriors (N, K) predicted by a small network that is trained on pairs from the prior with cross-entropy.

    Args:
        clean: posteriors (n, K) of the prior. Default: the wide prior.
    """
    classes, device = answers.shape[1], answers.device
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(2 * classes, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, classes),
        ).to(device)
    perturbed, expected = (part.to(device) for part in pairs(clean, TABLE, classes, defense, rng))
    inputs = _features(perturbed)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        pick = torch.randint(len(inputs), (BATCH,), generator=rng).to(device)
        loss = F.cross_entropy(network(inputs[pick]), expected[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % REPORT == 0:
            yield step / steps
    given, order = arranged(answers, defense)
    with torch.no_grad():
        found = network(_features(given)).softmax(1)
    return torch.zeros_like(answers).scatter(1, order, found)


def _features(answers: Tensor) -> Tensor:
    return torch.cat([answers, (answers + 1e-6).log() / 4], 1)
