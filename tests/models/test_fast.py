"""The fast networks: whitening, sizes, eight bits."""

import pytest
import torch
from torch import Tensor

from dcp_core.models import quantization
from dcp_core.models.architectures import Classifier, build, whiten
from dcp_core.models.fast import FILTERS, WHITEN_LEAST, FastNet
from dcp_core.models.onnx_file import to_onnx
from dcp_core.models.onnx_model import OnnxClassifier


def _pictures(count: int, size: int = 16) -> Tensor:
    """Smooth coloured pictures, whose neighbouring pixels are much alike."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return (torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 255).byte()


def _fast(classes: int = 4) -> tuple[Classifier, FastNet]:
    torch.manual_seed(0)
    model = build("fast_32_64_64", classes)
    assert isinstance(model.network, FastNet)
    return model, model.network


def test_a_whitened_convolution_gives_components_that_are_not_correlated() -> None:
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(1)).byte()
    images[:, 1] = images[:, 0] // 2 + images[:, 1] // 2  # two colours that go together
    model, network = _fast()
    whiten(model, images)
    with torch.no_grad():
        seen = network.first(model.normalise(images.float() / 255))[:, :FILTERS]
    covariance = seen.transpose(0, 1).flatten(1).cov()
    torch.testing.assert_close(covariance, torch.eye(FILTERS), atol=0.02, rtol=0)


def test_whitening_keeps_components_of_no_variance_small() -> None:
    model, network = _fast()
    whiten(model, torch.full((WHITEN_LEAST, 3, 16, 16), 90, dtype=torch.uint8))
    assert float(network.first.weight.abs().max()) < 50
    assert bool(model.eval()(torch.rand(2, 3, 16, 16)).isfinite().all())


def test_a_whitened_convolution_is_frozen_and_half_of_it_mirrors_the_other() -> None:
    model, network = _fast()
    whiten(model, _pictures(20))
    assert not any(each.requires_grad for each in network.first.parameters())
    torch.testing.assert_close(network.first.weight[:FILTERS], -network.first.weight[FILTERS:])


def test_too_few_pictures_to_whiten_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {WHITEN_LEAST} pictures, but there are 3"):
        whiten(_fast()[0], _pictures(3))


def test_other_networks_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    model = build("resnet8", 4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    whiten(model, _pictures(1))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_unknown_width_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'fast_1_2_3'; known: .*fast_32_64_128"):
        build("fast_1_2_3", 10)


def test_a_mirrored_classifier_answers_a_picture_and_its_mirror_image_alike() -> None:
    model, network = _fast()
    model.eval().mirrored = True
    pixels = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        both = (network(model.normalise(pixels)) + network(model.normalise(pixels.flip(3)))) / 2
        torch.testing.assert_close(model(pixels), both)
        torch.testing.assert_close(model(pixels), model(pixels.flip(3)))
        one = model.train()(pixels)  # in training each view counts for itself
    assert not torch.equal(one, model(pixels.flip(3)))


def test_a_fast_network_runs_in_eight_bits() -> None:
    model, _ = _fast()
    images = _pictures(200)
    whiten(model, images)
    model.train()
    with torch.no_grad():
        for part in images.split(50):  # batch norm learns its statistics
            model(part.float() / 255)
    model.network.head.weight.data *= 10  # posteriors that are not all flat
    prepared = quantization.prepare(model.eval(), images, 16, training=False)
    quantization.calibrate(prepared, images)
    simulated = quantization.convert(prepared)
    quantization.check_runtime(simulated, OnnxClassifier(to_onnx(simulated, 16), 16, 4), images)
