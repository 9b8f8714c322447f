"""Treatments of the answers by a thief who suspects or knows the defense, before the clone is trained on them.

Recovery inverts a known defense. The thief knows the defense and its parameters, but not the victim's clean posteriors.
Therefore clean posteriors are drawn from a broad prior and perturbed by the defense. From these pairs, the clean posterior
is estimated with the nearest perturbed answers (partial Bayes, after Tang et al., ModelGuard, USENIX Security 2024) or with
a small network (a learned inverse, after Chen et al., D-DAE, IEEE S&P 2023).

For a defense that treats all classes equally (`Defense.symmetric`), rows are sorted, so that one table is valid for all
orders of the classes. Centroids of a codebook belong to a class, so those rows are not sorted. No clean answer of the victim
is used, except that a thief who knows a codebook knows its centroids.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.attacks.oracle import AttackError
from dcp_core.defenses.base import Defense

AS_IS = "as-is"
TREATMENTS = (AS_IS, "top-1", "bayes", "inverse")
TABLE = 100_000  # rows of the look-up table
NEIGHBOURS = 8
STEPS, BATCH, HIDDEN = 3000, 256, 128  # training steps, batch size and width of the learned inverse


def check_treatment(treatment: str, known: Defense | None) -> None:
    """Check that a treatment is possible.

    Raises:
        AttackError: if a recovery has no known defense, or the defense uses the picture.
    """
    if treatment not in ("bayes", "inverse"):
        return
    if known is None:
        raise AttackError(
            f"the treatment '{treatment}' needs a known defense: choose a defense, or another treatment"
        )
    if known.needs_inputs:
        raise AttackError(
            f"the treatment '{treatment}' cannot invert {known.title}, which depends on the picture: choose another one"
        )


def treat(answers: Tensor, treatment: str, known: Defense | None, seed: int) -> Tensor:
    """Training targets (N, K) from answers (N, K). The result depends only on the arguments.

    Args:
        treatment: one of `TREATMENTS`.
        known: the defense, for recovery.
        seed: seed of the recovery's random numbers.

    Raises:
        AttackError: as `check_treatment`.
    """
    check_treatment(treatment, known)
    if treatment == "top-1":
        return F.one_hot(answers.argmax(1), answers.shape[1]).to(answers.dtype)
    if known is None or treatment == AS_IS:
        return answers
    return (partial_bayes if treatment == "bayes" else learned_inverse)(answers, known, seed)


def prior(count: int, classes: int, rng: torch.Generator) -> Tensor:
    """Plausible clean posteriors (count, K), from uniform to very confident: softmax of Gaussian logits.

    In 70 % of the rows, a random amount is added to the logit of one class, because trained networks are often confident.
    """
    scale = torch.empty(count, 1).uniform_(-1.0, 1.8, generator=rng).exp()
    logits = torch.randn(count, classes, generator=rng) * scale
    boost = torch.rand(count, generator=rng) * 12 * (torch.rand(count, generator=rng) < 0.7)
    top = torch.randint(classes, (count,), generator=rng)
    return (logits + boost[:, None] * F.one_hot(top, classes)).softmax(1)


def pairs(count: int, classes: int, defense: Defense, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Perturbed rows as `arranged` sorts them, and their clean rows with the same order of classes, both (count, K)."""
    clean = prior(count, classes, rng)
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


def partial_bayes(answers: Tensor, defense: Defense, seed: int, rows: int = TABLE) -> Tensor:
    """The expected clean posterior (N, K) for each answer: a weighted mean over the nearest rows of a table.

    Rows with equal perturbed answers, which a codebook produces, are merged. The weights are exp(-d^2 / 2 d_0^2), where d is
    the distance of a row and d_0 that of the nearest row.

    Args:
        answers: defended posteriors (N, K).
        defense: the known defense.
        seed: seed of the table.
        rows: size of the table.
    """
    perturbed, clean = merged(*pairs(rows, answers.shape[1], defense, torch.Generator().manual_seed(seed)))
    perturbed, clean = perturbed.to(answers.device), clean.to(answers.device)
    given, order = arranged(answers, defense)
    found = []
    for part in given.split(1000):
        distance, nearest = torch.cdist(part, perturbed).topk(min(NEIGHBOURS, len(perturbed)), largest=False)
        weights = (-(distance**2) / (2 * distance[:, :1] ** 2 + 1e-12)).softmax(1)
        found.append((weights[..., None] * clean[nearest]).sum(1))
    return torch.zeros_like(answers).scatter(1, order, torch.cat(found))


def learned_inverse(answers: Tensor, defense: Defense, seed: int, steps: int = STEPS) -> Tensor:
    """Clean posteriors (N, K) predicted by a small network that is trained on pairs from the prior with cross-entropy."""
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
    perturbed, clean = (part.to(device) for part in pairs(TABLE, classes, defense, rng))
    inputs = _features(perturbed)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pick = torch.randint(TABLE, (BATCH,), generator=rng).to(device)
        loss = F.cross_entropy(network(inputs[pick]), clean[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    given, order = arranged(answers, defense)
    with torch.no_grad():
        found = network(_features(given)).softmax(1)
    return torch.zeros_like(answers).scatter(1, order, found)


def _features(answers: Tensor) -> Tensor:
    return torch.cat([answers, (answers + 1e-6).log() / 4], 1)
