"""What a thief who suspects or knows the defense does to the answers before training on them.

Recovery needs the defense and its parameters, and only guesses about the victim: clean posteriors are drawn from
a broad prior, perturbed by the known defense, and the map is turned round: by looking up the nearest perturbed
answers (partial Bayes, after Tang et al., ModelGuard, USENIX Security 2024) or by a small network (a learned
inverse, after Chen et al., D-DAE, IEEE S&P 2023). For a defense that treats classes alike (`Defense.symmetric`) rows are
sorted, so that one table serves every order of the classes; centroids of a codebook belong to a class, so there they are
not. No clean answer of the victim is used, but whoever knows a codebook knows its centroids.
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
STEPS, BATCH, HIDDEN = 3000, 256, 128  # of the learned inverse


def check_treatment(treatment: str, known: Defense | None) -> None:
    """Raise an `AttackError` if a recovery lacks what it needs."""
    if treatment not in ("bayes", "inverse"):
        return
    if known is None:
        raise AttackError(f"the '{treatment}' thief must know the defense")
    if known.needs_inputs:
        raise AttackError(
            f"{known.title} depends on the picture, not on the posterior alone: '{treatment}' cannot undo it"
        )


def treat(answers: Tensor, treatment: str, known: Defense | None, seed: int) -> Tensor:
    """Training targets (N, K) made from answers (N, K); a function of its arguments alone.

    Raises:
        AttackError: for a recovery without a known defense.
    """
    check_treatment(treatment, known)
    if treatment == "top-1":
        return F.one_hot(answers.argmax(1), answers.shape[1]).to(answers.dtype)
    if known is None or treatment == AS_IS:
        return answers
    return (partial_bayes if treatment == "bayes" else learned_inverse)(answers, known, seed)


def prior(count: int, classes: int, dice: torch.Generator) -> Tensor:
    """Plausible clean posteriors (count, K): softmax of Gaussian logits from flat to very sure.

    A top class is pushed up by a random amount, as training does.
    """
    scale = torch.empty(count, 1).uniform_(-1.0, 1.8, generator=dice).exp()
    logits = torch.randn(count, classes, generator=dice) * scale
    boost = torch.rand(count, generator=dice) * 12 * (torch.rand(count, generator=dice) < 0.7)
    top = torch.randint(classes, (count,), generator=dice)
    return (logits + boost[:, None] * F.one_hot(top, classes)).softmax(1)


def pairs(count: int, classes: int, defense: Defense, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Perturbed rows, arranged, and the clean rows in that same order of classes, both (count, K)."""
    clean = prior(count, classes, dice)
    perturbed, order = arranged(defense(clean, generator=dice), defense)
    return perturbed, clean.gather(1, order)


def arranged(answers: Tensor, defense: Defense) -> tuple[Tensor, Tensor]:
    """Rows in descending order and their order of classes; as they are where the defense treats classes differently."""
    if defense.symmetric:
        return answers.sort(dim=1, descending=True, stable=True)
    return answers, torch.arange(answers.shape[1], device=answers.device).expand_as(answers)


def merged(perturbed: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The different perturbed rows, and the mean of the clean rows behind each."""
    rows, which, count = perturbed.unique(dim=0, return_inverse=True, return_counts=True)
    total = clean.new_zeros(rows.shape).index_add(0, which, clean)
    return rows, total / count[:, None]


def partial_bayes(answers: Tensor, defense: Defense, seed: int, rows: int = TABLE) -> Tensor:
    """The clean posterior to expect behind each answer (N, K): a mean over the nearest table rows.

    Rows with the same perturbed answer, as a codebook gives, are one. Weights exp(-d^2 / 2 d_0^2), d_0 the distance of the
    nearest.
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
    """The clean posteriors (N, K) a small network predicts, trained on pairs from the prior with cross-entropy."""
    classes, device = answers.shape[1], answers.device
    dice = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(2 * classes, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, classes),
        ).to(device)
    perturbed, clean = (part.to(device) for part in pairs(TABLE, classes, defense, dice))
    inputs = _features(perturbed)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pick = torch.randint(TABLE, (BATCH,), generator=dice).to(device)
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
