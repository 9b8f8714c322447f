"""Victims that are ONNX files: equal answers in all batches, and malicious files are refused."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, parser

from dcp_core import Deception, answer
from dcp_core.attacks import Oracle
from dcp_core.models import zoo
from dcp_core.models.inference import predict
from dcp_core.models.onnx_model import OnnxClassifier
from dcp_core.models.onnx_session import OnnxError

SHIPPED = PTQ, QAT = "signs-resnet8-ptq", "signs-resnet8-qat"
HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def noise(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def model(body: str, inputs: str = "float[N,3,8,8] pixels", output: str = "float[N,4] logits") -> bytes:
    return parser.parse_model(f"{HEAD} g ({inputs}) => ({output}) {{ {body} }}").SerializeToString()


SUMS = "s = GlobalAveragePool(pixels) f = Flatten(s) l = Concat<axis=1>(f, f) "
GOOD = model(SUMS + "a = Constant<value_ints=[0,1,2,3]>() logits = Gather<axis=1>(l, a)")


@pytest.mark.parametrize("name", [*SHIPPED, "cifar10-resnet20-ptq", "cifar10-resnet20-qat"])
def test_a_quantized_victim_answers_as_plain_onnx_runtime(name: str) -> None:
    images = noise(30)
    path = zoo.PRECOMPUTED / "victims" / name / zoo.ONNX
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(None, {"pixels": images.float().div(255).numpy()})
    victim = zoo.load(name)
    np.testing.assert_allclose(predict(victim.model, images, batch_size=7), expected, atol=1e-4)
    clean = answer(victim, images.float() / 255, Deception()).clean
    np.testing.assert_allclose(clean, torch.from_numpy(expected).softmax(-1), atol=1e-5)


@pytest.mark.parametrize("name", ["signs-resnet8", "cifar10-resnet20"])
def test_an_fp32_victim_answers_on_cpus_as_its_torch_network(name: str) -> None:
    images, victim = noise(30), zoo.load(name)
    assert isinstance(victim.model, OnnxClassifier)
    ours, theirs = (predict(each, images).softmax(-1) for each in (victim.model, zoo.network(name)))
    assert float((ours - theirs).abs().max()) <= 1e-5


@pytest.mark.parametrize("name", SHIPPED)
def test_a_quantized_victim_says_what_it_was_made_of(name: str) -> None:
    card = zoo.card(name)
    assert card.of == "signs-resnet8"
    assert card.precision == name[-3:]
    assert card.recipe["runtime_against_simulation"]["mean_difference"] <= 0.002
    assert card.recipe["runtime_against_simulation"]["same_top_class"] >= 99
    assert abs(card.test_accuracy - zoo.card(card.of).test_accuracy) <= 1
    with pytest.raises(zoo.VictimError, match="take signs-resnet8 instead"):
        zoo.network(name)


def test_an_oracle_of_a_quantized_victim_answers_and_counts() -> None:
    victim = zoo.load(PTQ)
    oracle = Oracle(victim.model, Deception(), 40)
    defended = oracle.query(noise(50))
    assert oracle.used == len(defended) == 40
    expected = Deception()(logits=predict(victim.model, noise(40)))
    torch.testing.assert_close(defended, expected, atol=1e-3, rtol=0)


def test_a_file_takes_any_number_of_pictures_and_no_gradients() -> None:
    network = OnnxClassifier(GOOD, 8, 4)
    pixels = torch.rand(5, 3, 8, 8, requires_grad=True)
    logits = network(pixels)
    assert logits.shape == (5, 4)
    assert not logits.requires_grad
    torch.testing.assert_close(logits[:, 0], pixels.detach().mean((2, 3))[:, 0])


def _elsewhere() -> bytes:
    """A graph whose numbers are in another file."""
    graph = onnx.load_from_string(model("logits = MatMul(pixels, w)", "float[N,3] pixels"))
    tensor = graph.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    return graph.SerializeToString()


def _foreign() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Spy", ["pixels"], ["logits"], domain="evil")],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("evil", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: b"", "cannot run"),
        (lambda: b"not a model", "cannot run"),
        (lambda: GOOD[:60], "cannot run"),
        (_elsewhere, "cannot run"),
        (_foreign, "cannot run"),
        (
            lambda: model(SUMS + "logits = Add(l, l)", output="float[N,6] logits"),
            r"must be finite logits \(1, 4\)",
        ),
        (lambda: model("logits = Identity(pixels)", output="float[N,3,8,8] logits"), "must be finite logits"),
        (lambda: model("logits = Add(pixels, b)", "float[N,4] pixels, float b"), "one input"),
        (lambda: model("logits = Identity(pixels)", "float[N,4] pixels"), "does not take pictures"),
        (lambda: model("logits = Identity(pixels)", "float[1,3,8,8] pixels", "float[1,3,8,8] logits"), "3, 8, 8"),
    ],
    ids=["empty", "text", "cut", "external", "custom", "classes", "shape", "inputs", "flat", "fixed"],
)
def test_a_file_that_cannot_be_a_victim_is_refused(
    content: Callable[[], bytes], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    with pytest.raises(OnnxError, match=words):
        OnnxClassifier(content(), 8, 4)


def test_a_users_own_onnx_file_is_a_victim_when_it_fits_its_card(home: Path) -> None:
    folder = home / "victims" / "mine"
    folder.mkdir(parents=True)
    card = {
        "name": "mine",
        "title": "Mine",
        "dataset": "x",
        "architecture": "?",
        "classes": list("abcd"),
        "size": 8,
    }
    card |= {"precision": "ptq", "sha256": hashlib.sha256(GOOD).hexdigest()}
    (folder / zoo.CARD).write_text(json.dumps(card))
    (folder / zoo.ONNX).write_bytes(GOOD)
    assert predict(zoo.load("mine").model, noise(3, 8)).shape == (3, 4)
    (folder / zoo.ONNX).write_bytes(GOOD + b"\0")
    with pytest.raises(zoo.VictimError, match="not the file that its card describes"):
        zoo.load("mine")
    (folder / zoo.CARD).write_text(json.dumps(card | {"size": 16}))
    (folder / zoo.ONNX).write_bytes(GOOD)
    with pytest.raises(zoo.VictimError, match=r"model\.onnx cannot be used"):
        zoo.load("mine")
    (folder / zoo.CARD).write_text(json.dumps(card | {"precision": "int4"}))
    with pytest.raises(zoo.VictimError, match="not one of fp32, ptq, qat"):
        zoo.card("mine")


def test_serving_a_quantized_victim_imports_neither_torchao_nor_an_exporter() -> None:
    code = (
        f"import sys; from dcp_core.models import zoo; import dcp_core.costs.quantized; zoo.load({PTQ!r}); "
        "print([name for name in ('torchao', 'onnxscript', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
