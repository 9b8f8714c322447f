"""The network of D-DAE, which turns defended answers into clean ones (Chen et al., IEEE S&P 2023).

Structure and schedule are those of the implementation that ModelGuard was compared with (Tang et al., USENIX Security 2024).
"""

import torch
from torch import Tensor, nn

from dcp_core.attacks.recovery import TABLE, Working, arranged, pairs
from dcp_core.defenses.base import Defense

EPOCHS, BATCH = 200, 1024
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
HALVED = 100  # epoch from which the learning rate is half


def hidden(classes: int) -> tuple[int, int]:
    """Widths of the two hidden layers, as published for 10, 43 and 100 classes; other numbers use the next larger case."""
    if classes <= 10:
        return 128, 64
    return (512, 256) if classes <= 43 else (1024, 512)


def network(classes: int) -> nn.Sequential:
    """Defended answers (N, K) -> clean answers (N, K)."""
    wide, narrow = hidden(classes)
    return nn.Sequential(
        nn.Linear(classes, wide),
        nn.BatchNorm1d(wide),
        nn.LeakyReLU(0.2),
        nn.Linear(wide, narrow),
        nn.BatchNorm1d(narrow),
        nn.LeakyReLU(0.2),
        nn.Linear(narrow, classes),
        nn.Softmax(1),
    )


def denoised(
    answers: Tensor, defense: Defense, seed: int, clean: Tensor | None = None, epochs: int = EPOCHS
) -> Working:
    """Clean posteriors (N, K) predicted by D-DAE's network. Its loss is the mean l1 distance of a row.

    Args:
        answers: defended posteriors (N, K).
        defense: the known defense.
        seed: seed of weights and batches.
        clean: posteriors (n, K) of the prior: in D-DAE, the answers of shadow models. Default: the wide prior (D-DAE+).
    """
    classes, device = answers.shape[1], answers.device
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(classes).to(device).train()
    perturbed, expected = (part.to(device) for part in pairs(clean, TABLE, classes, defense, rng))
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    for epoch in range(epochs):
        if epoch == HALVED:
            optimizer.param_groups[0]["lr"] = RATE / 2
        for pick in torch.randperm(len(perturbed), generator=rng).to(device).split(BATCH):
            if len(pick) < 2:  # too few for batch normalisation
                continue
            loss = (model(perturbed[pick]) - expected[pick]).abs().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield (epoch + 1) / epochs
    given, order = arranged(answers, defense)
    with torch.no_grad():
        found = model.eval()(given)
    return torch.zeros_like(answers).scatter(1, order, found)
