"""Open a classifier that was made elsewhere: what kind of file it is, and what the file says about itself."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcp_core.files import read_regular
from dcp_core.given import hub, weights
from dcp_core.models.given_onnx import MOST_BYTES, GivenNetwork
from dcp_core.models.onnx_session import OnnxError

CODE = (".pt", ".pth", ".pt2", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib")
TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, as torch.save and TorchScript write; a pickle
MOST_NAMES = 2**20  # largest size of a file with class names in bytes
EXPORT = """\
model.eval()  # your network, with its weights
example = torch.zeros(2, 3, 224, 224)  # two pictures of your network's size
torch.onnx.export(model, (example,), "model.onnx", dynamo=True, external_data=False, dynamic_shapes=({0: "N"},))"""


class SourceError(ValueError):
    """A file that cannot be used as a victim. The message says why, and what to do."""


@dataclass(frozen=True)
class Given:
    """A given classifier.

    Args:
        network: the classifier, which can be run with any preprocessing.
        file: name of the file or folder.
        sha256: sha256 of the file.
        form: what it is, in words.
        says: what the file says about its preprocessing, as arguments of `Preprocessing`; empty if nothing.
        classes: what it says about the names of its outputs.
    """

    network: GivenNetwork
    file: str
    sha256: str
    form: str
    says: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def open_given(
    path: Path, output: str | None = None, network: str | None = None, size: int | None = None
) -> Given:
    """Open a classifier.

    Args:
        path: an ONNX file, safetensors weights, a folder of timm or Hugging Face, or `hf:OWNER/NAME` or `timm:NAME`, see
            `hub.py`.
        output: name of the output with the classes, for an ONNX file with several.
        network: architecture of safetensors weights.
        size: side in pixels of the pictures for a network that does not say it.

    Raises:
        SourceError: for a kind of file that can run code when it is opened.
        WeightsError: for weights that cannot be used.
        HubError: for a model that cannot be downloaded from the Hub.
        OnnxError: for an ONNX file that cannot be used, or a network that cannot be exported.
        OSError: for a file that cannot be read.
    """
    if (there := hub.place(str(path))) is not None:
        if there.kind != "model":
            raise SourceError(f"{there.name} is a data set: give a model, for example hf:OWNER/NAME")
        folder, origin = hub.fetch_model(there)
        given = _exported(folder, weights.from_folder(folder), folder / weights.WEIGHTS, size)
        return dataclasses.replace(given, file=origin)
    if path.is_dir():
        return _exported(path, weights.from_folder(path), path / weights.WEIGHTS, size)
    if path.suffix.lower() == ".safetensors":
        return _exported(path, weights.from_file(path, network), path, size)
    content = read_regular(path, MOST_BYTES)
    if path.suffix.lower() in CODE or content.startswith(TORCH_STARTS):
        raise SourceError(
            f"{path.name} is refused, because files of this kind can run code when they are opened. Export an ONNX file:\n\n"
            f"{EXPORT}"
        )
    try:
        opened = GivenNetwork(content, output)
    except OnnxError as error:
        raise OnnxError(f"{path.name}: {error}") from error
    about = opened.signature
    form = f"ONNX, opset {about.opset}" + (f", {about.producer}" if about.producer else "")
    return Given(opened, path.name, hashlib.sha256(content).hexdigest(), form)


def _exported(path: Path, loaded: weights.Loaded, file: Path, size: int | None) -> Given:
    """A torch network as an ONNX file. Its pictures have the given size, or the one that it was trained for."""
    from dcp_core.models.onnx_file import QuantizationError, to_onnx  # imported here because it takes seconds

    side = size or loaded.size
    if side is None:
        raise SourceError(
            f"{path.name} takes pictures of any size: give the one that it was trained for with --size"
        )
    try:
        content = to_onnx(loaded.network, side)
    except QuantizationError as error:
        raise SourceError(f"{path.name}: {error}") from error
    digest = hashlib.sha256(read_regular(file, MOST_BYTES)).hexdigest()
    return Given(GivenNetwork(content), path.name, digest, loaded.form, loaded.says, loaded.classes)


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of the outputs in their order, from a file: one name a line, a JSON list, or a JSON object {"0": "cat", ...}.

    Raises:
        SourceError: for anything else.
        OSError: for a file that cannot be read.
    """
    try:
        return parse_classes(read_regular(path, MOST_NAMES).decode())
    except ValueError as error:
        raise SourceError(f"{path} has no class names: {error}") from error


def parse_classes(text: str) -> tuple[str, ...]:
    """Names of the outputs in their order from a text, see `read_classes`.

    Raises:
        SourceError: for anything else.
    """
    try:
        names = named(json.loads(text)) if text.lstrip().startswith(("[", "{")) else text.splitlines()
    except (ValueError, RecursionError) as error:
        raise SourceError(f"write one name a line ({error})") from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2 or not all(name.isprintable() for name in names):
        raise SourceError("there must be at least two class names, one a line")
    return tuple(names)


def named(given: Any) -> list[str]:
    """Class names from a JSON list, or an object by their numbers.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return given
    if isinstance(given, dict) and set(given) == {str(number) for number in range(len(given))}:
        return [str(given[str(number)]) for number in range(len(given))]
    raise ValueError("neither a list of names nor an object by their numbers")
