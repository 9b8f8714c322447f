"""Making what attacks and defenses need: victims, their second networks, their eight-bit versions and ONNX files.

    card = finish(make_victim("signs", "resnet8", epochs=12))

Each `make_...` gives a generator that reports its `Progress` and returns the card of what it has stored. An interrupted
training of a victim or of a second network goes on where it was when it is called again with the same arguments.
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
"""What makes the things that a plan asks for, by the name of the plan's table."""

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
