"""Classifiers given as safetensors weights: of an architecture of this project or of torchvision, or a folder of timm or
Hugging Face. The network is built, gets the weights, and is exported as an ONNX file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from dcp_core.files import read_object, read_regular
from dcp_core.models.architectures import ARCHITECTURES, build
from dcp_core.models.given_onnx import MOST_BYTES
from dcp_core.models.zoo import TORCHVISION
from dcp_core.vision import torchvision

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
MOST_CONFIG = 4 * 2**20  # largest size of a JSON file in bytes
PROBE = 1009  # number of classes of a trial network, in which the tensors of the last layer are recognised by it


class WeightsError(ValueError):
    """Weights that do not fit a network. The message says why, and what to do."""


@dataclass(frozen=True)
class Loaded:
    """A torch network with its weights: input as `says` describes it -> logits (N, K).

    Args:
        form: what it is, in words.
        size: side of its pictures in pixels, if it is known.
        says, classes: as in `sources.Given`.
    """

    network: nn.Module
    form: str
    size: int | None
    says: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def from_file(path: Path, name: str | None) -> Loaded:
    """A network of this project or of torchvision with the weights in a safetensors file.

    Args:
        name: name of the architecture; torchvision:NAME if this project has one of the same name.

    Raises:
        WeightsError: for an unknown architecture, or weights that do not fit it.
        OSError: for a file that cannot be read.
    """
    if name is None:
        raise WeightsError(
            f"{path.name} has weights but no network: name it with --network, one of {', '.join(ARCHITECTURES)}, or a "
            "classification model of torchvision"
        )
    tensors = _tensors(path)
    if name in ARCHITECTURES:
        try:
            made = _filled(partial(build, name), tensors, name)
        except WeightsError as error:
            raise WeightsError(
                f"{error} For a network of torchvision, use --network {TORCHVISION}{name}"
            ) from error
        return Loaded(made, f"safetensors, {name}", None, {"order": "RGB"})  # the network normalises pixels itself
    models, short = torchvision().models, name.removeprefix(TORCHVISION)
    if short not in models.list_models(module=models):
        raise WeightsError(
            f"unknown architecture {name}; known: {', '.join(ARCHITECTURES)}, and those of torchvision"
        )
    made = _filled(lambda count: models.get_model(short, weights=None, num_classes=count), tensors, short)
    preset = models.get_model_weights(short).DEFAULT.transforms()
    says = {
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "crop": min(1.0, preset.crop_size[0] / preset.resize_size[0]),
    }
    return Loaded(made, f"safetensors, torchvision {short}", preset.crop_size[0], says)


def from_folder(folder: Path) -> Loaded:
    """A network of timm or Hugging Face from its folder: `config.json`, `model.safetensors`, and for the latter
    `preprocessor_config.json`.

    Raises:
        WeightsError: if a file or the library is missing, or the weights do not fit.
        OSError: for a file that cannot be read.
    """
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise WeightsError(
            f"{folder} needs {CONFIG} and {WEIGHTS}. Weights in other formats can run code: save them with "
            "safetensors.torch.save_model, or export an ONNX file"
        )
    config = _object(folder / CONFIG)
    return _timm(folder, config) if isinstance(config.get("architecture"), str) else _hugging_face(folder, config)


def _timm(folder: Path, config: dict[str, Any]) -> Loaded:
    timm = _library("timm")
    name, about = config["architecture"], config.get("pretrained_cfg")
    about = about if isinstance(about, dict) else {}
    if not timm.is_model(name):
        raise WeightsError(f"timm has no network {name!r:.60}: use the version of timm with which it was saved")
    tensors = _tensors(folder / WEIGHTS)
    made = _filled(lambda count: timm.create_model(name, pretrained=False, num_classes=count), tensors, name)
    size = about.get("input_size")
    says: dict[str, Any] = {key: _triple(about[key]) for key in ("mean", "std") if _triple(about.get(key))}
    if isinstance(about.get("crop_pct"), int | float) and 0 < about["crop_pct"] <= 1:
        says["crop"] = float(about["crop_pct"])
    side = size[-1] if isinstance(size, list) and size and isinstance(size[-1], int) else None
    return Loaded(made, f"timm {name}", side, says, _names(config.get("label_names")))


def _hugging_face(folder: Path, config: dict[str, Any]) -> Loaded:
    transformers = _library("transformers")
    try:
        model = transformers.AutoModelForImageClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except Exception as error:  # it raises many kinds of errors, all about the folder
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"transformers cannot build the network in {folder}: {reason}") from error
    path = folder / PREPROCESSOR
    about = _object(path) if path.is_file() else {}
    says: dict[str, Any] = {}
    if about.get("do_normalize", True) and about:
        says = {
            key: _triple(about.get(f"image_{key}"))
            for key in ("mean", "std")
            if _triple(about.get(f"image_{key}"))
        }
    elif about:
        says = {"order": "RGB"}
    resize, crop = _side(about.get("size")), _side(about.get("crop_size"))
    side = crop if about.get("do_center_crop") and crop else resize
    if side and resize and side < resize:
        says["crop"] = side / resize
    side = side or (config["image_size"] if isinstance(config.get("image_size"), int) else None)
    labels = config.get("id2label")
    return Loaded(_Logits(model.eval()), f"Hugging Face {type(model).__name__}", side, says, _names(labels))


class _Logits(nn.Module):
    """A network of transformers as a function from pixels to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).logits


def _filled(make: Callable[[int], nn.Module], tensors: dict[str, Tensor], name: str) -> nn.Module:
    """A network with these weights; its number of classes is found in them."""
    last = [key for key, value in make(PROBE).state_dict().items() if value.dim() and value.shape[0] == PROBE]
    counts = {tensors[key].shape[0] for key in last if key in tensors and tensors[key].dim()}
    if len(counts) != 1:
        raise WeightsError(f"these are not weights of {name}: they lack {', '.join(last) or 'a last layer'}")
    network = make(counts.pop())
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"these are not weights of {name}: {reason}") from error
    return network.eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(read_regular(path, MOST_BYTES))
    except SafetensorError as error:
        raise WeightsError(f"{path.name} is not a safetensors file, or it is incomplete ({error})") from error


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, MOST_CONFIG)
    except (ValueError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _library(name: str) -> Any:
    if find_spec(name) is None:
        raise WeightsError(f"this folder needs the optional library {name}: pip install {name}")
    torchvision()  # both libraries import torchvision, which fails if its build does not match torch's
    return import_module(name)


def _triple(value: Any) -> tuple[float, float, float] | None:
    good = isinstance(value, list) and len(value) == 3 and all(isinstance(each, int | float) for each in value)
    return (float(value[0]), float(value[1]), float(value[2])) if good else None


def _side(value: Any) -> int | None:
    """A number of pixels in one of the forms of a preprocessor's file."""
    if isinstance(value, dict):
        value = value.get("height", value.get("shortest_edge"))
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _names(value: Any) -> tuple[str, ...] | None:
    """Class names from a list, or an object by their numbers; None for anything else."""
    if isinstance(value, dict) and set(value) == {str(number) for number in range(len(value))}:
        value = [value[str(number)] for number in range(len(value))]
    return tuple(map(str, value)) if isinstance(value, list) and len(value) > 1 else None
