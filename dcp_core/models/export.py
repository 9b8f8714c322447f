"""Export a victim and a defense as one ONNX file, which maps pixels to defended posteriors.

The file is the victim's `model.onnx` with the nodes of the defense (`defense_nodes.py`) after its logits. Before it is
returned, its answers are compared with those of this library (`check`).
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from torch import Tensor

from dcp_core.data import sources, synthetic
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.models.auxiliary import arm
from dcp_core.models.defense_nodes import OPSET, ExportError, defense_graph
from dcp_core.models.inference import predict
from dcp_core.models.onnx_model import OnnxClassifier, open_session
from dcp_core.models.onnx_session import in_batches

TOLERANCE = 1e-5  # largest allowed difference of posteriors
CHECKED = 500  # pictures on which a file is checked
EXACT_SHARE = 99.0  # percentage of answers that must be within TOLERANCE, from pixels to defended posteriors


@dataclass(frozen=True)
class Report:
    """The comparison of a file with this library on `pictures` pictures.

    `network_difference`: largest difference of posteriors between the file's network and the victim (in eager torch if it is
    fp32). `difference`: largest difference between the defense nodes and this library for identical clean posteriors.
    `exact_share`: percentage of answers that are equal within `TOLERANCE`, from pixels to defended posteriors. It can be
    below 100 because the steep step of a detector amplifies rounding errors if y_max is very near to tau.
    `end_to_end`: largest difference, from pixels to defended posteriors. `bytes`: size of the file.
    `added_bytes`, `added_percent_1`, `added_percent_64`: what the defense adds to the size, and to the latency of batches of
    1 and 64, in percent. The latency is that of the nodes in their own session, including the cost of the call.
    """

    pictures: int
    network_difference: float
    difference: float
    exact_share: float
    end_to_end: float
    bytes: int
    added_bytes: int
    added_percent_1: float
    added_percent_64: float

    def words(self) -> str:
        """A summary in two sentences."""
        return (
            f"Compared with the library on {self.pictures} pictures: the posteriors of the network differ by at most "
            f"{self.network_difference:.1e}, and those of the defense, for identical clean posteriors, by at most "
            f"{self.difference:.1e}; from pixels to defended posteriors, {self.exact_share:.1f} % of the answers are equal "
            f"within {TOLERANCE:g} (largest difference {self.end_to_end:.1e}). The defense adds "
            f"{self.added_percent_64:.2f} % to the latency of a batch of 64 and {self.added_percent_1:.0f} % to that of one "
            "picture."
        )


def export(victim: str, defense: Defense, *, baked: bool = False, clean: bool = False) -> tuple[bytes, Report]:
    """A victim with a defense as one ONNX file, which maps `pixels` (N, 3, S, S) to `posterior` (N, K), and its check.

    Args:
        victim: name of a victim that has a `model.onnx`.
        baked: store the parameters as constants. By default, the parameters in `Nodes.inputs` are optional inputs of the
            file, with the values of this defense as defaults. For DCP, a negative `tau` means that tau follows beta.
        clean: add a second output, `defense_y` (N, K), with the clean posteriors. It is for servers that watch their
            clients (`dcp serve-file`), and not for files that others get.

    Raises:
        VictimError: if the victim is unknown or has no ONNX file.
        ExportError: if the defense has no ONNX nodes, or the answers of the file differ from those of the library.
    """
    card, network, defense = zoo.card(victim), zoo.onnx_file(victim), arm(defense, victim)
    nodes = defense_graph(defense, len(card.classes), baked=baked)
    if clean:
        nodes.output.append(_values("defense_y", len(card.classes)))
    content = _joined(network, nodes, card, defense)
    return content, check(content, network, nodes, card, defense)


def check(
    content: bytes, network: bytes, nodes: onnx.GraphProto, card: zoo.Card, defense: Defense, count: int = CHECKED
) -> Report:
    """Compare the answers of a file with those of the library.

    Args:
        content: the file.
        network: the victim's `model.onnx`.
        nodes: the defense of the file.
        count: number of pictures.

    Raises:
        ExportError: if network or defense differ by more than `TOLERANCE`, or too many complete answers do.
    """
    pixels = _pictures(count, card.size)
    session, alone = open_session(content), OnnxClassifier(network, card.size, len(card.classes))
    logits = predict(alone, pixels)
    engine = zoo.network(card.name) if card.has_weights else zoo.load(card.name).model
    apart = _worst(predict(engine, pixels).softmax(-1), logits.softmax(-1))
    y, defended = _on_probabilities(nodes, logits)
    off = _worst(defended, defense(y))
    parts = [in_batches(session, {"pixels": part.numpy()}, alone.batch)[0] for part in pixels.split(100)]
    moved = (torch.from_numpy(np.concatenate(parts)) - defense(logits=logits)).abs().amax(-1)
    exact = 100 * float((moved <= TOLERANCE).double().mean())
    if not (apart <= TOLERANCE and off <= TOLERANCE and exact >= EXACT_SHARE):
        raise ExportError(
            f"no file was made, because its answers to {count} pictures differ from the library's: those of its network by "
            f"{apart:.1e}, those of its defense by {off:.1e}, and {exact:.1f} % of all answers are within {TOLERANCE:g}"
        )
    added = {batch: _added_latency(alone, nodes, pixels[:batch], logits[:batch]) for batch in (1, 64)}
    size = len(content), len(content) - len(network)
    return Report(count, apart, off, exact, float(moved.max()), *size, added[1], added[64])


def _worst(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def _on_probabilities(nodes: onnx.GraphProto, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Clean and defended posteriors (N, K) that the nodes compute from logits (N, K)."""
    opened = onnx.GraphProto()
    opened.CopyFrom(nodes)
    if "defense_y" not in [value.name for value in opened.output]:
        opened.output.append(_values("defense_y", logits.shape[1]))
    posterior, y = _session(opened).run(None, {"logits": logits.numpy()})
    return torch.from_numpy(y), torch.from_numpy(posterior)


def _values(name: str, classes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes])


def _session(graph: onnx.GraphProto) -> InferenceSession:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return open_session(model.SerializeToString())


def script(card: zoo.Card, file: str, defense: Defense, *, baked: bool = False) -> str:
    """A Python script that gives pictures to the file, with ONNX Runtime, NumPy and Pillow only."""
    inputs = {} if baked else arm(defense, card.name).nodes(len(card.classes)).inputs
    given = '{"pixels": pixels}'
    if inputs:
        first, value = next(iter(inputs.items()))
        given = f'{{"pixels": pixels, "{first}": np.array({value}, np.float32)}}'
    lines = [
        "import json",
        "import sys",
        "",
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image, ImageOps",
        "",
        "onnxruntime.set_default_logger_severity(3)",
        f'session = onnxruntime.InferenceSession("{file}")',
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        "# the pictures that the command names: python run.py sign.jpg",
        'pictures = [Image.open(name).convert("RGB") for name in sys.argv[1:]]',
        f"squares = [ImageOps.fit(each, ({card.size}, {card.size}), Image.Resampling.BILINEAR) for each in pictures]",
        f"# (N, 3, {card.size}, {card.size}), RGB, 0 to 1",
        "pixels = np.stack([np.asarray(each, np.float32) / 255 for each in squares]).transpose(0, 3, 1, 2)",
        *([f"# optional inputs, the defaults are in the file: {', '.join(inputs)}"] if inputs else []),
        f"(posteriors,) = session.run(None, {given})",
        "for posterior in posteriors:",
        "    print(classes[posterior.argmax()], *posterior)",
    ]
    return "\n".join(lines) + "\n"


def _joined(network: bytes, nodes: onnx.GraphProto, card: zoo.Card, defense: Defense) -> bytes:
    model = onnx.load_from_string(network)
    graph = model.graph
    opset = next((each.version for each in model.opset_import if each.domain == ""), 0)
    names = ([value.name for value in graph.input], [value.name for value in graph.output])
    if opset < OPSET or names != (["pixels"], ["logits"]):
        raise ExportError(
            f"the victim's model.onnx has {names} in opset {opset}, but an export needs pixels -> logits in opset "
            f"{OPSET} or newer: make the file again"
        )
    graph.node.extend(nodes.node)
    graph.initializer.extend(nodes.initializer)
    graph.input.extend(value for value in nodes.input if value.name != "logits")
    del graph.output[:]
    graph.output.extend(nodes.output)
    described = {
        "classes": list(card.classes),
        "victim": card.name,
        "victim_sha256": card.sha256,
        "precision": card.precision,
        "defense": defense.name,
        "parameters": defense.values(),
    }
    for key, value in described.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _pictures(count: int, size: int) -> Tensor:
    """Pixels (count, 3, size, size) of drawn signs, which need no download."""
    images = synthetic.signs(count, sources.SIGNS_TEST)[0].float() / 255
    return images if size == images.shape[-1] else F.interpolate(images, (size, size), mode="bilinear")


def _added_latency(network: OnnxClassifier, nodes: onnx.GraphProto, pixels: Tensor, logits: Tensor) -> float:
    """Latency of the defense nodes in percent of the network's: medians over alternating calls."""
    seconds: tuple[list[float], list[float]] = ([], [])
    works: tuple[Callable[[], object], ...] = (
        partial(network, pixels),
        partial(_session(nodes).run, None, {"logits": logits.numpy()}),
    )
    for _ in range(15):
        for work, times in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return 100 * statistics.median(seconds[1]) / statistics.median(seconds[0])
