"""Derivatives of a frozen surrogate along a fixed direction, with its batch normalisation folded away.

In eval mode a convolution and the normalisation after it are one affine map, whose weights are a function of the
parameters of both. A direction in the parameters is pushed through that function once; after that each picture
costs one forward-mode pass through the convolutions alone.
"""

from collections.abc import Callable, Hashable
from copy import deepcopy

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, jvp

Parameters = dict[str, Tensor]


class FoldedSurrogate(nn.Module):
    """Computes what `network` computes, in eval mode, with the weights that it has now: not to be trained."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()
        self._graph = fx.symbolic_trace(deepcopy(network))
        self._pairs = _take_out_normalisation(self._graph)
        self._directions: dict[Hashable, tuple[Parameters, Parameters]] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K) of pictures (N, 3, H, W)."""
        logits: Tensor = self.network(inputs)
        return logits

    def slopes(self, inputs: Tensor, key: Hashable, direction: Callable[[], Parameters]) -> Tensor:
        """Slopes (N, K) of the log posteriors along a direction in all parameters of `network`.

        Args:
            key: names the direction; `direction` is asked for it the first time only.
        """
        if key not in self._directions:
            own = {name: value.detach() for name, value in self.network.named_parameters()}
            pushed = jvp(self._folded, (own,), (direction(),))
            self._directions[key] = pushed[0], pushed[1]
        weights, tangents = self._directions[key]

        def compute(folded: Parameters) -> Tensor:
            logits: Tensor = functional_call(self._graph, folded, (inputs,))
            return logits.log_softmax(-1)

        return jvp(compute, (weights,), (tangents,))[1]

    def _folded(self, own: Parameters) -> Parameters:
        """Weights of the graph without normalisation, from the network's own parameters."""
        folded = dict(own)
        for convolution, name, norm in self._pairs:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = folded.pop(f"{name}.weight") * (norm.running_var + norm.eps).rsqrt()
            shift = folded.pop(f"{name}.bias")
            bias = own.get(f"{convolution}.bias", torch.zeros_like(scale))
            folded[f"{convolution}.weight"] = own[f"{convolution}.weight"] * scale[:, None, None, None]
            folded[f"{convolution}.bias"] = shift + (bias - norm.running_mean) * scale
        return folded


def _take_out_normalisation(graph: fx.GraphModule) -> list[tuple[str, str, nn.BatchNorm2d]]:
    """Remove each batch normalisation that follows a convolution alone; (convolution, name, normalisation) of each."""
    modules, taken = dict(graph.named_modules()), []
    for node in list(graph.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            continue
        before = node.args[0]
        convolution = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            if convolution.bias is None:  # a place for what the normalisation adds
                convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
            taken.append((str(before.target), str(node.target), norm))
    graph.recompile()
    return taken
