"""Weights without a graph: the network is built, filled and exported; nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import archive, pictures, saved
from safetensors.torch import save, save_model
from torch import nn

from dcp_core.given import EXPORT, accept, examine
from dcp_core.given.sources import open_given
from dcp_core.given.weights import WeightsError, from_file, from_folder
from dcp_core.making import finish
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.given_onnx import GivenNetwork
from dcp_core.models.inference import predict
from dcp_core.vision import torchvision

PIXELS = torch.from_numpy(pictures(6, 32)[0]).permute(0, 3, 1, 2) / 255


def weights(network: nn.Module, folder: Path, name: str = "weights.safetensors") -> Path:
    save_model(network, folder / name)
    return folder / name


def test_weights_of_an_architecture_of_ours_answer_like_the_network(home: Path, tmp_path: Path) -> None:
    network = build("resnet8", 4).eval()
    data = archive(tmp_path, images=pictures(side=32)[0])
    found = finish(examine(weights(network, tmp_path), data, network="resnet8"))
    assert found.check.chosen == "the file"
    accept("mine", found)
    torch.testing.assert_close(
        predict(zoo.load("mine").model, PIXELS), predict(network, PIXELS), atol=1e-4, rtol=0
    )


def test_weights_of_torchvision_get_its_preprocessing(tmp_path: Path) -> None:
    network = torchvision().models.squeezenet1_1(weights=None, num_classes=4).eval()
    given = open_given(weights(network, tmp_path), network="squeezenet1_1", size=32)
    assert given.says["mean"] == (0.485, 0.456, 0.406)
    assert given.says["crop"] == pytest.approx(224 / 256)
    assert given.network.signature.size == 32
    (found,) = given.network.session.run(None, {given.network.signature.input: PIXELS.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(PIXELS).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [(None, "--network"), ("nonsense", "unknown architecture"), ("resnet20", "not weights of resnet20")],
)
def test_weights_without_their_network_are_refused(tmp_path: Path, name: str | None, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        from_file(weights(build("resnet8", 4), tmp_path), name)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, save({"network.0.weight": torch.zeros(3)})])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WeightsError):
        from_file(saved(tmp_path, content, "w.safetensors"), "resnet8")


def folder(path: Path, config: Any, content: bytes = b"") -> Path:
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (path / "model.safetensors").write_bytes(content)
    return path


@pytest.mark.parametrize("config", ["{", "[]", {"architecture": 3}, {}])
def test_a_broken_folder_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(WeightsError):
        from_folder(folder(tmp_path, config))


def test_a_folder_with_a_pickle_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="can run code"):
        from_folder(tmp_path)


def test_a_folder_of_timm(tmp_path: Path) -> None:
    torchvision()
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", num_classes=4).eval()
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64], "crop_pct": 0.9}
    config = {"architecture": "resnet18", "pretrained_cfg": cfg, "label_names": list("abcd")}
    given = open_given(folder(tmp_path, config, weights(network, tmp_path, "w").read_bytes()))
    assert (given.classes, given.says["crop"], given.network.signature.size) == (tuple("abcd"), 0.9, 64)
    seen = torch.rand(2, 3, 64, 64)
    (found,) = given.network.session.run(None, {given.network.signature.input: seen.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(seen).detach(), atol=1e-3, rtol=1e-3)


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    torchvision()
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "embedding_size": 8, "layer_type": "basic"}
    labels = {str(number): name for number, name in enumerate("abcd")}
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(**shape, id2label=labels)).eval()
    network.save_pretrained(tmp_path)
    about = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 64}, "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    given = open_given(tmp_path)
    assert (given.classes, given.says["mean"], given.network.signature.size) == (tuple("abcd"), (0.5,) * 3, 64)
    seen = torch.rand(2, 3, 64, 64)
    (found,) = given.network.session.run(None, {given.network.signature.input: seen.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(seen).logits.detach(), atol=1e-3, rtol=1e-3)


def test_the_lines_that_are_advised_export_a_network_that_is_accepted(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 7, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    exec(
        EXPORT.replace('"model.onnx"', "path"), {"torch": torch, "model": model, "path": str(tmp_path / "m.onnx")}
    )
    about = GivenNetwork((tmp_path / "m.onnx").read_bytes()).signature
    assert (about.batch, about.size, about.classes) == (None, 224, 4)
