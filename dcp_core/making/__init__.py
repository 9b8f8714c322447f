"""Make victims, the second networks of defenses, eight-bit versions of victims, and ONNX files.

    card = finish(make_victim("signs", "resnet8", epochs=12))

Each `make_...` function is a generator. It yields `Progress` and returns the card of the stored network. If the training
of a victim or of a second network was interrupted, a call with the same arguments resumes it from its checkpoint.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dcp_core.making.eight_bits import make_onnx, make_quantized
from dcp_core.making.progress import Making, Progress, finish
from dcp_core.making.second_network import make_second_network
from dcp_core.making.victim import make_victim

MAKERS: Mapping[str, Callable[..., Making]] = MappingProxyType(
    {"train": make_victim, "auxiliary": make_second_network, "quantize": make_quantized}
)
"""The function that makes each entry of a plan, by the name of the plan's table."""

__all__ = [
    "MAKERS",
    "Making",
    "Progress",
    "finish",
    "make_onnx",
    "make_quantized",
    "make_second_network",
    "make_victim",
]
