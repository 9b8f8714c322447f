"""Classifiers that were trained elsewhere, as victims: open a classifier, check it on test pictures, and store it.

found = finish(examine(Path("model.onnx"), "test_pictures/"))
print(*found.words(), sep="\\n")
card = accept("mine", found)
"""

from dcp_core.given.add import Examination, accept, check_name, examine, remove
from dcp_core.given.pictures import unpack
from dcp_core.given.services import EXAMPLE, ServiceExamination, accept_service, examine_service, read_description
from dcp_core.given.sources import EXPORT, parse_classes, read_classes

__all__ = [
    "EXAMPLE",
    "EXPORT",
    "Examination",
    "ServiceExamination",
    "accept",
    "accept_service",
    "check_name",
    "examine",
    "examine_service",
    "parse_classes",
    "read_classes",
    "read_description",
    "remove",
    "unpack",
]
