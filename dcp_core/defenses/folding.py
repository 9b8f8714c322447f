"""Derivatives of a surrogate along a direction in its parameters, with batch normalisation folded into convolutions.

In eval mode, a convolution and the batch normalisation after it are one affine map. Its weights are a function of the
parameters of both. The derivative of this function along the direction is computed once, and again only if the direction
or the network changes. Each picture then needs one forward-mode pass through the convolutions only.
"""

from copy import deepcopy

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, jvp

Parameters = dict[str, Tensor]


class FoldedSurrogate(nn.Module):
    """The same function as `network` in eval mode. The network may be trained between two calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()
        self._graph = fx.symbolic_trace(deepcopy(network))
        self._pairs = _take_out_normalisation(self._graph)
        self._pushed: tuple[Tensor, Parameters, Parameters] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K) of pictures (N, 3, H, W)."""
        logits: Tensor = self.network(inputs)
        return logits

    def slopes(self, inputs: Tensor, direction: Parameters) -> Tensor:
        """Directional derivatives (N, K) of the log posteriors along a direction in all parameters of `network`.

        Args:
            inputs: pictures (N, 3, H, W).
            direction: a tensor of the parameter's shape for each parameter name.
        """
        own = {name: value.detach() for name, value in self.network.named_parameters()}
        fixed = dict(self.network.named_buffers())
        weights, tangents = self._push(own, fixed, direction)

        def compute(folded: Parameters) -> Tensor:
            logits: Tensor = functional_call(self._graph, fixed | folded, (inputs,))
            return logits.log_softmax(-1)

        return jvp(compute, (weights,), (tangents,))[1]

    def _push(self, own: Parameters, fixed: Parameters, direction: Parameters) -> tuple[Parameters, Parameters]:
        """Folded weights, and their derivatives along a direction. They are stored with a copy of all input values.

        The stored result is used again if all values are equal. Comparing anything else is unsafe: Python reuses the `id`
        of a deleted tensor, and the version of a tensor does not count changes through `.data`.
        """
        values = [*own.values(), *fixed.values(), *(direction[name] for name in own)]
        made_from = torch.cat([value.flatten() for value in values if value.is_floating_point()])
        pushed = self._pushed
        if pushed is None or not _equal(pushed[0], made_from):
            self._pushed = pushed = made_from, *jvp(self._folded, (own,), (direction,))
        return pushed[1:]

    def _folded(self, own: Parameters) -> Parameters:
        """Weights of the graph without normalisation, from the network's own parameters."""
        folded = dict(own)
        for convolution, name in self._pairs:
            norm = self.network.get_submodule(name)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = folded.pop(f"{name}.weight") * (norm.running_var + norm.eps).rsqrt()
            shift = folded.pop(f"{name}.bias")
            bias = own.get(f"{convolution}.bias", torch.zeros_like(scale))
            folded[f"{convolution}.weight"] = own[f"{convolution}.weight"] * scale[:, None, None, None]
            folded[f"{convolution}.bias"] = shift + (bias - norm.running_mean) * scale
        return folded


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.device == other.device and one.dtype == other.dtype and torch.equal(one, other)


def _take_out_normalisation(graph: fx.GraphModule) -> list[tuple[str, str]]:
    """Remove each batch normalisation whose convolution has no other user. Returns pairs of their names."""
    modules, taken = dict(graph.named_modules()), []
    for node in list(graph.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            continue
        before = node.args[0]
        convolution = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            if convolution.bias is None:  # the folded convolution needs a bias
                convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
            taken.append((str(before.target), str(node.target)))
    graph.recompile()
    return taken
