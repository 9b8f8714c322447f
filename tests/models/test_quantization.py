"""Eight-bit networks: what is rounded, what training changes, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from dcp_core.files import PRECOMPUTED
from dcp_core.models import quantization
from dcp_core.models.architectures import BasicBlock, Classifier, InvertedBlock, WideBlock
from dcp_core.models.onnx_file import QuantizationError, to_onnx
from dcp_core.models.onnx_model import OnnxClassifier
from dcp_core.models.training import Recipe

SIZE = 16


def tiny(*middle: nn.Module) -> Classifier:
    """A network of 4 classes with `middle` on 8 channels, as after some training."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    network = Classifier(nn.Sequential(*stem, *middle, *head))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    nn.init.normal_(head[-1].weight, std=8)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    coarse = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, (SIZE, SIZE)) * 255).byte()


@pytest.fixture(scope="module")
def rounded(images: Tensor) -> tuple[nn.Module, bytes]:
    """The simulated network after PTQ, and its file."""
    prepared = quantization.prepare(tiny(BasicBlock(8, 8, 1)), images, SIZE, training=False)
    quantization.calibrate(prepared, images)
    simulated = quantization.convert(prepared)
    return simulated, to_onnx(simulated, SIZE)


def weights(file: bytes) -> list[np.ndarray]:
    found = map(numpy_helper.to_array, onnx.load_from_string(file).graph.initializer)
    return [array for array in found if array.dtype == np.int8 and array.ndim > 1]


def test_onnx_runtime_answers_as_the_simulated_network(images: Tensor, rounded: tuple[nn.Module, bytes]) -> None:
    simulated, file = rounded
    drift, same = quantization.check_runtime(simulated, OnnxClassifier(file, SIZE, 4), images)
    assert drift <= 0.002
    assert same >= 99


def test_another_network_is_not_taken_for_the_simulated_one(
    images: Tensor, rounded: tuple[nn.Module, bytes]
) -> None:
    other = tiny(BasicBlock(8, 8, 1))
    nn.init.normal_(other.network[-1].weight, std=3)
    with pytest.raises(QuantizationError, match="answers differ from those of the simulated network"):
        quantization.check_runtime(rounded[0], other, images)


def test_every_layer_is_rounded_and_logits_are_not(images: Tensor, rounded: tuple[nn.Module, bytes]) -> None:
    assert len(weights(rounded[1])) == 4  # three convolutions and the linear layer
    logits = OnnxClassifier(rounded[1], SIZE, 4)(images.float() / 255)
    assert len(logits.unique()) > 256


@pytest.mark.parametrize("file", sorted((PRECOMPUTED / "victims").glob("*-[pq]*/model.onnx")), ids=str)
def test_weights_of_shipped_files_have_seven_bits(file: Path) -> None:
    found = weights(file.read_bytes())
    assert max(int(np.abs(array.astype(int)).max()) for array in found) == 63


def test_a_file_holds_no_notes_of_its_exporter(rounded: tuple[nn.Module, bytes]) -> None:
    assert b".py" not in rounded[1]
    assert b"/" not in onnx.load_from_string(rounded[1]).graph.doc_string.encode()


@pytest.mark.parametrize("block", [BasicBlock(8, 8, 1), WideBlock(8, 8, 1), InvertedBlock(8, 8, 1)], ids=type)
def test_folding_keeps_the_answers_and_leaves_no_batch_normalisation(block: nn.Module, images: Tensor) -> None:
    network, pixels = tiny(block), images[:20].float() / 255
    folded = quantization.fold(network, pixels)
    torch.testing.assert_close(folded(pixels), network(pixels), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


class Crossed(nn.Module):
    """Normalises before the convolution that its batch normalisation is listed behind."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.norm(x))


class Branching(nn.Module):
    """Decides by the data."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (nn.Sigmoid(), "aten.sigmoid.default"),
        (nn.GroupNorm(2, 8), "group_norm"),
        (Crossed(), "not called in the order"),
        (Branching(), "cannot be traced"),
    ],
    ids=lambda value: str(value)[:9],
)
def test_what_cannot_be_quantized_is_named(middle: nn.Module, words: str, images: Tensor) -> None:
    with pytest.raises(QuantizationError, match=words):
        quantization.prepare(tiny(middle), images, SIZE, training=False)


def test_calibration_sets_that_are_empty_or_of_the_wrong_size_are_refused(images: Tensor) -> None:
    with pytest.raises(QuantizationError, match="no calibration pictures"):
        quantization.prepare(tiny(), images[:0], SIZE, training=False)
    with pytest.raises(QuantizationError, match=r"\(3, 16, 16\), but the victim needs \(3, 32, 32\)"):
        quantization.prepare(tiny(), images, 32, training=False)


@pytest.mark.parametrize("rounding", [True, False], ids=["qat", "fp32 control"])
def test_every_parameter_is_trained(rounding: bool, images: Tensor) -> None:
    network, pixels = tiny(BasicBlock(8, 8, 1), WideBlock(8, 8, 1)), images[:20].float() / 255
    if rounding:
        trained: nn.Module = quantization.prepare(network, images, SIZE, training=True)
    else:
        trained = quantization.fold(network, pixels)
    nn.functional.cross_entropy(trained(pixels), torch.arange(20) % 4).backward()
    gradients = {name: parameter.grad for name, parameter in trained.named_parameters()}
    assert len(gradients) > 10
    without = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert not without


def test_qat_trains_the_rounded_weights_and_freezes_ranges_late(images: Tensor) -> None:
    labels = torch.arange(len(images)) % 4
    prepared = quantization.prepare(tiny(), images, SIZE, training=True)
    before = {name: value.detach().clone() for name, value in prepared.named_parameters()}
    ranging = []
    for progress in quantization.fine_tune(prepared, images, labels, Recipe(20, 50, 0.02, schedule="cosine")):
        enabled = [bool(value.any()) for name, value in prepared.named_buffers() if "observer_enabled" in name]
        ranging.append((progress.fraction, any(enabled)))
    assert ranging[0][1]
    assert all(on == (done < quantization.FREEZE_FROM) for done, on in ranging)
    layers = {name: value.detach() for name, value in prepared.named_parameters() if value.dim() > 1}
    assert all(not value.equal(before[name]) for name, value in layers.items())
    (trained,) = (value for value in layers.values() if value.dim() == 4)
    (stored,) = (array for array in weights(to_onnx(quantization.convert(prepared), SIZE)) if array.ndim == 4)
    step = trained.abs().amax((1, 2, 3), keepdim=True) / 63
    kept, left = trained / step - torch.tensor(stored), before[_name_of(layers, trained)] / step
    # the file holds the trained weights (their scale is a moving average), not those from before
    assert float(kept.abs().mean()) < float((left - torch.tensor(stored)).abs().mean()) / 2


def _name_of(layers: dict[str, Tensor], value: Tensor) -> str:
    return next(name for name, each in layers.items() if each is value)
