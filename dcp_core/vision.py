"""The one place where torchvision is imported.

A CPU build of torch beside a CUDA build of torchvision (what `pip` gives on some machines) cannot load
torchvision's compiled operators, and `import torchvision` raises "operator torchvision::nms does not exist".
Nothing here uses those operators, so their two schemas are declared and the import is tried once more; where
the builds match, this does nothing. torchvision is slow to import: call this where it is used.
"""

import importlib
import sys
from functools import cache
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a Library un-declares its schemas when it is collected


@cache
def torchvision() -> ModuleType:
    """The torchvision package, whichever build of it is installed."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for schema in _SCHEMAS:
        library.define(schema)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
