"""Import torchvision, also if its build does not match that of torch.

On some machines, `pip` installs a CPU build of torch and a CUDA build of torchvision. torchvision's compiled operators
cannot be loaded then, and `import torchvision` raises "operator torchvision::nms does not exist". This project does not
use these operators, so their two schemas are declared and the import is repeated. torchvision is slow to import: call
`torchvision()` only where it is needed.
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
_libraries: list[
    torch.library.Library
] = []  # must be kept: a Library removes its schemas when it is garbage-collected


@cache
def torchvision() -> ModuleType:
    """The torchvision package.

    Raises:
        RuntimeError: if the import fails for another reason than missing operators.
    """
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
