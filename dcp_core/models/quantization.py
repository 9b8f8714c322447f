"""Eight-bit victims: post-training quantization (PTQ) and quantization-aware training (QAT), stored as ONNX files.

`torchao` PT2E makes them, and ONNX Runtime runs them (`dcp_core/models/onnx_model.py`). Importing this module imports
torchao, which takes seconds. Only code that makes quantized victims imports it.

Activations have 8 bits and weights 7 (from -63 to 63, with one scale for each channel). CPUs without VNNI add two products
of 8-bit numbers in 16 bits, which can saturate and change posteriors. With 7 bits it cannot: 255 * 63 * 2 < 2**15.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    allow_exported_model_train_eval,
    disable_observer,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.onnx_file import DYNAMIC_BATCH, QuantizationError, quiet
from dcp_core.models.training import Recipe, TrainingProgress, train

WEIGHT_MAX = 63
FOLDING_TOLERANCE = 1e-3  # largest allowed difference of posteriors; rounding of float32 causes a hundredth of it
CALIBRATION_BATCH = 64
RUNTIME_DRIFT, RUNTIME_SAME = 0.002, 99.0
FREEZE_FROM = 0.5  # fraction of a QAT after which activation ranges and weight scales are fixed

_aten = torch.ops.aten
_LAYERS = (_aten.conv2d.default, _aten.linear.default)
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_RELU = (
    _aten.relu.default,
    _aten.relu_.default,
    _aten.relu6.default,
    _aten.relu6_.default,
    _aten.hardtanh.default,
    _aten.hardtanh_.default,
)
# Normalisation of pixels is in fp32; pooling and reshaping keep eight bits.
_PASSED_ON = (
    _aten.sub.Tensor,
    _aten.div.Tensor,
    _aten.adaptive_avg_pool2d.default,
    _aten.avg_pool2d.default,
    _aten.max_pool2d.default,
    _aten.mean.dim,
    _aten.amax.default,
    _aten.flatten.using_ints,
    _aten.view.default,
    _aten.reshape.default,
    _aten.dropout.default,
)


class OnnxRuntimeQuantizer(Quantizer):
    """Quantizes at the places where ONNX Runtime fuses operators: convolution, linear layer and residual addition, each with
    its ReLU or ReLU6. With an unfused ReLU6, eight bits would be slower than fp32. Logits stay in fp32."""

    def __init__(self, training: bool) -> None:
        activation, weight = _observers(training)
        self.activation = QuantizationSpec(torch.uint8, activation, 0, 255, torch.per_tensor_affine)
        self.weight = QuantizationSpec(
            torch.int8, weight, -WEIGHT_MAX, WEIGHT_MAX, torch.per_channel_symmetric, ch_axis=0
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        """See `Quantizer`."""
        for node in model.graph.nodes:
            if node.target in _LAYERS:
                inputs = {node.args[0]: self.activation, node.args[1]: self.weight}
            elif node.target in _ADD:
                inputs = dict.fromkeys(node.args[:2], self.activation)
            else:
                continue
            (user,) = node.users if len(node.users) == 1 else (None,)
            last = user if user is not None and user.target in _RELU else node
            is_logits = user is not None and user.op == "output"
            _annotate(node, inputs, self.activation if last is node and not is_logits else None)
            if last is not node:
                _annotate(last, {}, self.activation)
        return model

    def validate(self, model: GraphModule) -> None:
        """See `Quantizer`."""


def _observers(training: bool) -> tuple[Callable[[], nn.Module], Callable[[], nn.Module]]:
    if not training:
        return MinMaxObserver.with_args(eps=2**-12), PerChannelMinMaxObserver.with_args(eps=2**-12)
    moving = (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)
    first, second = (FusedMovingAvgObsFakeQuantize.with_args(eps=2**-12, observer=each) for each in moving)
    return first, second


def _annotate(node: Node, inputs: dict, output: QuantizationSpec | None) -> None:
    node.meta["quantization_annotation"] = QuantizationAnnotation(
        input_qspec_map=inputs, output_qspec=output, _annotated=True
    )


def fold(network: nn.Module, pixels: Tensor) -> nn.Module:
    """A copy in eval mode without batch normalisation, which is folded into the convolution before it, or becomes one.

    The statistics of the batch normalisation are then fixed. A QAT of a few epochs does not need to update them.

    Args:
        pixels: (N, 3, H, W) in [0, 1]; network and copy must give equal answers to them.

    Raises:
        QuantizationError: if the answers differ, because the network does not call its layers in the order of definition.
    """
    folded = _folded(copy.deepcopy(network).cpu().eval())
    folded.requires_grad_(True)  # torch's fuse_conv_bn_eval makes biases that do not train
    with torch.no_grad():
        before, after = network.cpu().eval()(pixels).softmax(-1), folded(pixels).softmax(-1)
    if not float((before - after).abs().max()) < FOLDING_TOLERANCE:
        raise QuantizationError(
            "this network's batch normalisation cannot be folded into its convolutions: its layers are not called "
            "in the order in which they are defined"
        )
    return folded


def _folded(module: nn.Module) -> nn.Module:
    before: str | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if before is None:
                setattr(module, name, _as_convolution(child))
            else:
                convolution = nn.utils.fuse_conv_bn_eval(getattr(module, before), child)
                setattr(module, before, convolution)
                setattr(module, name, nn.Identity())
        else:
            _folded(child)
        before = name if isinstance(child, nn.Conv2d) else None
    return module


def _as_convolution(norm: nn.BatchNorm2d) -> nn.Module:
    """A batch normalisation without a convolution before it, as a convolution with one 1x1 filter for each channel."""
    channels = norm.num_features
    identity = nn.Conv2d(channels, channels, 1, groups=channels, bias=False).eval()
    nn.init.ones_(identity.weight)
    return nn.utils.fuse_conv_bn_eval(identity, norm)


def prepare(network: nn.Module, images: Tensor, size: int, *, training: bool) -> GraphModule:
    """The folded network with observers (PTQ; then call `calibrate`) or with simulated rounding (QAT; call `fine_tune`).

    Args:
        images: calibration or training pictures, uint8 (N, 3, size, size), never of the test set.
        size: size of the victim's pictures, pixels.
        training: prepare for QAT.

    Raises:
        QuantizationError: if there are no pictures or they have another size, or if the network cannot be traced or has
            operators that would stay in fp32.
    """
    if images.dim() != 4 or not len(images):
        raise QuantizationError("there are no calibration pictures: give some of the victim's training set")
    if tuple(images.shape[1:]) != (3, size, size):
        raise QuantizationError(
            f"the calibration pictures have shape {tuple(images.shape[1:])}, but the victim needs (3, {size}, {size})"
        )
    pixels = to_pixels(images[:64])
    folded = fold(network, pixels)
    # Cloned, because the program stores the example, and a view would store all pictures.
    example = torch.cat([pixels, pixels])[:2].clone()
    with quiet():
        try:
            program = torch.export.export(folded, (example,), dynamic_shapes=DYNAMIC_BATCH).module()
        except Exception as error:  # the exporter raises many kinds, all of them about the network
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise QuantizationError(
                f"this network cannot be quantized, because it cannot be traced: {reason}"
            ) from error
        check_operators(program)
        quantizer = OnnxRuntimeQuantizer(training)
        prepared = prepare_qat_pt2e(program, quantizer) if training else prepare_pt2e(program, quantizer)
        return allow_exported_model_train_eval(prepared)


def check_operators(program: GraphModule) -> None:
    """Check that a traced network can be quantized.

    Raises:
        QuantizationError: if it has operators that would stay in fp32 (the message names them), or no layer to quantize.
    """
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    known = {*_LAYERS, *_ADD, *_RELU, *_PASSED_ON}
    if unknown := sorted({str(target) for target in called if target not in known and "guard" not in str(target)}):
        raise QuantizationError(
            f"this network has operators that cannot be quantized here: {', '.join(unknown)}; convolution, linear, "
            "addition, ReLU, ReLU6, pooling and reshaping can"
        )
    if not any(target in _LAYERS for target in called):
        raise QuantizationError("this network has no convolution and no linear layer: nothing to quantize")


def calibrate(prepared: GraphModule, images: Tensor) -> None:
    """PTQ: measure the ranges of activations on pictures of the training set, uint8 (N, 3, H, W)."""
    with torch.no_grad():
        for part in images.split(CALIBRATION_BATCH):
            prepared(to_pixels(part))


def fine_tune(prepared: GraphModule, images: Tensor, labels: Tensor, recipe: Recipe) -> Iterator[TrainingProgress]:
    """QAT: train all weights and biases in place, with simulated rounding.

    After the fraction `FREEZE_FROM` of the steps, the ranges of activations and the scales of weights are fixed. The weights
    themselves still change.
    """
    frozen = False
    for progress in train(prepared, images, labels, recipe, mixed=False):  # its rounding is written for float32
        if progress.fraction >= FREEZE_FROM and not frozen:
            prepared.apply(disable_observer)
            frozen = True
        yield progress


def convert(prepared: GraphModule) -> GraphModule:
    """The eight-bit network, simulated in fp32. It maps pixels (N, 3, H, W) in [0, 1] to logits (N, K)."""
    prepared.eval()
    with quiet():
        return convert_pt2e(prepared)


def check_runtime(simulated: nn.Module, model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Compare ONNX Runtime's answers with those of the simulated network, on pictures, uint8 (N, 3, H, W).

    Returns:
        The mean absolute difference of posteriors, and the percentage of pictures with the same top class.

    Raises:
        QuantizationError: if the mean is above `RUNTIME_DRIFT` or the percentage below `RUNTIME_SAME`. Rounding alone does
            not cause this, although single posteriors may differ by 0.05.
    """
    with torch.no_grad():
        ours = torch.cat([simulated(to_pixels(part)) for part in images.split(CALIBRATION_BATCH)]).softmax(-1)
    theirs = predict(model, images).softmax(-1)
    drift = float((ours - theirs).abs().mean())
    same = 100 * float((ours.argmax(-1) == theirs.argmax(-1)).double().mean())
    if drift > RUNTIME_DRIFT or same < RUNTIME_SAME:
        raise QuantizationError(
            f"ONNX Runtime's answers differ from those of the simulated network: mean difference {drift:.4f}, same top "
            f"class for {same:.2f} % of {len(images)} pictures"
        )
    return drift, same
