"""MAD and GRAD² computed as in their published implementations: with autograd, for one picture and one class at a time.

They give the same answers as `mad.py` and `gradient_redirection.py`, and are used to test these and to compare their speed.
The published latencies are those of such implementations.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from dcp_core.defenses.mad import TOP_BONUS


def class_gradients(network: nn.Module, picture: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """G (K, P): the gradients of log p_k(x) for the parameters, with a forward and a backward pass for each class.

    Args:
        picture: (1, 3, H, W).
    """
    rows: list[Tensor] = []
    classes = 1
    while len(rows) < classes:
        log_p = network(picture).log_softmax(-1)[0]
        classes = len(log_p)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(log_p[len(rows)], parameters)]))
    return torch.stack(rows)


def last_layer(network: nn.Module) -> list[Tensor]:
    """Weight and bias of the last linear layer."""
    return list([module for module in network.modules() if isinstance(module, nn.Linear)][-1].parameters())


def mad(
    network: nn.Module,
    y: Tensor,
    inputs: Tensor,
    epsilon: float,
    *,
    oracle: str = "extreme",
    objective: str = "angle",
    parameters: Sequence[Tensor] | None = None,
) -> Tensor:
    """Answers (N, K) of MAD.

    Args:
        y: clean posteriors (N, K).
        inputs: pictures (N, 3, H, W).
        epsilon, oracle, objective: as in `mad.MAD`.
        parameters: whose gradients are used. Default: those of the last layer.
    """
    answers = []
    for clean, picture in zip(y, inputs, strict=True):
        g = class_gradients(network, picture[None], parameters or last_layer(network)).to(y.dtype)

        def value(candidate: Tensor, g: Tensor = g, clean: Tensor = clean) -> float:
            if objective == "distance":
                return float((g.T @ (candidate - clean)).square().sum())
            return 1 - float(cosine_similarity(g.T @ candidate, g.T @ clean, dim=0, eps=1e-30))

        if oracle == "argmax":
            target = max(_supports(clean, value), key=value)
        else:
            target = max(torch.eye(len(clean), dtype=y.dtype, device=y.device), key=value)
        step = min(1.0, epsilon / float((clean - target).abs().sum()))
        answers.append((1 - step) * clean + step * target)
    return torch.stack(answers)


def _supports(clean: Tensor, value: Callable[[Tensor], float]) -> list[Tensor]:
    """Candidates of MAD-argmax: all supports with the top class; for more than 10 classes only those of a greedy search."""
    top = int(clean.argmax())
    others = [k for k in range(len(clean)) if k != top]

    def of(support: Sequence[int]) -> Tensor:
        weights = torch.zeros_like(clean)
        weights[list(support)] = 1
        weights[top] = 1 + TOP_BONUS
        return weights / weights.sum()

    if len(clean) <= 10:
        sizes = range(len(clean))
        return [of(chosen) for size in sizes for chosen in itertools.combinations(others, size)]
    found, chosen = [], list[int]()
    while len(chosen) < len(others):
        best = max((k for k in others if k not in chosen), key=lambda k: value(of([*chosen, k])))
        chosen.append(best)
        found.append(of(chosen))
    return found


def grad2(network: nn.Module, y: Tensor, inputs: Tensor, epsilon: float, target: Tensor | None = None) -> Tensor:
    """Answers (N, K) of GRAD² for a batch, with double backpropagation and a loop over classes.

    Args:
        y: clean posteriors (N, K).
        inputs: pictures (N, 3, H, W).
        epsilon: l1 budget, 0 to 2.
        target: direction (P,) in all parameters. Default: opposite to the mean gradient of the batch (MIN-IP).
    """
    parameters = list(network.parameters())
    answer = y.clone().requires_grad_()
    likelihood = (answer * network(inputs).log_softmax(-1)).sum(1).mean()
    gradient = torch.autograd.grad(likelihood, parameters, create_graph=True)
    flat = torch.cat([part.flatten() for part in gradient])
    direction = -flat.detach() if target is None else target
    gain = torch.autograd.grad(flat @ direction, answer)[0]
    return torch.stack([_moved(clean, row, epsilon) for clean, row in zip(y, gain, strict=True)])


def _moved(clean: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    order = gain.argsort().tolist()
    receiver, donors = order[-1], order[:-1]
    answer, left = clean.clone(), epsilon / 2
    for donor in donors:
        taken = min(left, float(answer[donor]))
        answer[donor] -= taken
        answer[receiver] += taken
        left -= taken
    return answer


def all_ones(network: nn.Module) -> Tensor:
    """The usual target (P,) of GRAD²: 1 for each parameter."""
    return torch.cat([torch.ones_like(value).flatten() for value in network.parameters()])
