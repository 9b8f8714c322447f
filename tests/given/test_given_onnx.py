"""ONNX files of other projects become victims whatever their version, layout, type of numbers or number of pictures."""

from pathlib import Path

import pytest
import torch
from networks import CLASSES, external, network, pixels

from dcp_core.models.given_onnx import GivenNetwork, as_victim, to_logits
from dcp_core.models.onnx_model import OnnxClassifier
from dcp_core.models.onnx_session import OnnxError
from dcp_core.models.preprocessing import Preprocessing, PreprocessingError

RGB = Preprocessing(8)
SOFTMAX = "y = Softmax <axis = 1> (z)"
FIXED = "s = Constant <value_ints = [2, 4]> () y = Reshape (z, s)"
FORMS = {
    "opset 7": (network(opset=7), RGB, "logits"),
    "opset 11": (network(opset=11), RGB, "logits"),
    "opset 13": (network(opset=13), RGB, "logits"),
    "opset 22": (network(opset=22), RGB, "logits"),
    "one picture at once": (network(inputs="float[1,3,8,8] x", outputs="float[1,4] y"), RGB, "logits"),
    "batch fixed inside": (
        network(
            inputs="float[2,3,8,8] x",
            outputs="float[2,4] y",
            after="s = Constant <value_ints = [2, 4]> () y = Reshape (z, s)",
        ),
        RGB,
        "logits",
    ),
    "any size": (network(inputs="float[N,3,H,W] x"), RGB, "logits"),
    "NHWC": (
        network(inputs="float[N,8,8,3] x", before="t = Transpose <perm = [0, 3, 1, 2]> (x)", pooled="t"),
        Preprocessing(8, layout="NHWC"),
        "logits",
    ),
    "half precision": (
        network(inputs="float16[N,3,8,8] x", before="t = Cast <to = 1> (x)", pooled="t"),
        RGB,
        "logits",
    ),
    "double output": (network(after="y = Cast <to = 11> (z)", outputs="double[N,4] y"), RGB, "logits"),
    "bytes": (
        network(
            inputs="uint8[N,3,8,8] x",
            before="c = Cast <to = 1> (x) d = Constant <value_float = 255.0> () t = Div (c, d)",
            pooled="t",
        ),
        Preprocessing(8, highest=255),
        "logits",
    ),
    "probabilities": (network(after=SOFTMAX), RGB, "probabilities"),
    "old softmax": (network(opset=11, after=SOFTMAX), RGB, "probabilities"),
    "BGR, normalised": (
        network(
            before="o = Constant <value_ints = [2, 1, 0]> () r = Gather <axis = 1> (x, o) "
            "h = Constant <value_float = 0.5> () d = Mul (r, h) t = Add (d, h)",
            pooled="t",
        ),
        Preprocessing(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), order="BGR"),
        "logits",
    ),
    "as from SqueezeNet": (
        network(
            after="s = Constant <value_ints = [-1, 4, 1, 1]> () y = Reshape (z, s)", outputs="float[N,4,1,1] y"
        ),
        RGB,
        "logits",
    ),
    "names of ours": (
        network(
            inputs="float[N,3,8,8] pixels",
            pooled="pixels",
            after="logits = Identity (z)",
            outputs="float[N,4] logits",
        ),
        RGB,
        "logits",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_victims_file_answers_as_the_plain_network(form: str) -> None:
    content, how, outputs = FORMS[form]
    seen = pixels()
    expected = to_logits(GivenNetwork(network())(seen, RGB), "logits").softmax(1)
    made = as_victim(GivenNetwork(content), how, outputs, seen)
    found = OnnxClassifier(made, 8, 4)(seen).softmax(1)
    torch.testing.assert_close(found, expected, atol=2e-3 if form == "half precision" else 1e-5, rtol=0)


def test_a_file_for_a_fixed_number_of_pictures_takes_any_number_where_its_graph_allows() -> None:
    content, how, outputs = FORMS["one picture at once"]
    assert OnnxClassifier(as_victim(GivenNetwork(content), how, outputs, pixels()), 8, 4).batch is None
    content, how, outputs = FORMS["batch fixed inside"]
    assert OnnxClassifier(as_victim(GivenNetwork(content), how, outputs, pixels()), 8, 4).batch == 2


def test_grey_pictures_are_the_weighted_mean_of_the_colours() -> None:
    seen = pixels()
    grey = Preprocessing(8, order="grey")
    expected = 0.299 * seen[:, 0] + 0.587 * seen[:, 1] + 0.114 * seen[:, 2]
    torch.testing.assert_close(grey(seen)[:, 0], expected)


def test_what_a_file_says_is_read() -> None:
    about = GivenNetwork(FORMS["NHWC"][0]).signature
    assert (about.layout, about.size, about.channels, about.classes, about.batch) == ("NHWC", 8, 3, 4, None)
    assert GivenNetwork(FORMS["any size"][0]).signature.size is None


TWO_OUTPUTS = network(outputs="float[N,4] y, float[N,4] u", extra="u = Identity (z)")
HOSTILE = {
    "empty": (b"", "not an ONNX file"),
    "not ONNX": (b"\x89PNG\r\n\x1a\n" + b"x" * 200, "not an ONNX file"),
    "truncated": (network()[:-40], "not an ONNX file"),
    "two outputs": (TWO_OUTPUTS, "--output"),
    "no classes": (network(after="y = ReduceMax <keepdims = 1> (z)", outputs="float[1,1] y"), "one output"),
    "not square": (network(inputs="float[N,3,8,9] x"), "square"),
    "text input": (network(inputs="string[N,3,8,8] x"), "cannot run|must be a tensor"),
    "unknown operator": (network(after="y = Nonsense (z)"), "cannot run this model"),
    "two inputs": (
        network(inputs="float[N,3,8,8] x, float[N,4] v", after="y = Add (z, v)"),
        "has one input, this model has 2",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_classifier_is_refused_with_the_reason(case: str) -> None:
    content, reason = HOSTILE[case]
    with pytest.raises(OnnxError, match=reason):
        GivenNetwork(content)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="in another file"):
        GivenNetwork(external(network(), tmp_path))


def test_an_output_can_be_chosen() -> None:
    assert GivenNetwork(TWO_OUTPUTS, "u").signature.output == "u"


@pytest.mark.parametrize("size", [9, 4])
def test_pictures_of_another_size_are_refused_in_a_sentence(size: int) -> None:
    with pytest.raises(OnnxError, match=f"does not take pictures of {size} x {size} pixels"):
        GivenNetwork(network())(torch.zeros(2, 3, size, size), Preprocessing(size))


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(OnnxError, match="not finite"):
        GivenNetwork(network(after="m = Sub (z, z) y = Div (z, m)"))(pixels(), RGB)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"size": 10**9}, {"crop": 0.0}, {"std": (0.0, 1.0, 1.0)}, {"order": "RBG"}, {"highest": 2.0}],
)
def test_impossible_preprocessing_is_refused(wrong: dict) -> None:
    with pytest.raises(PreprocessingError):
        Preprocessing(**{"size": 8} | wrong)


def test_the_classes_are_those_of_the_toy() -> None:
    answers = GivenNetwork(network())(pixels(), RGB)
    assert answers.argmax(1).tolist() == [k % len(CLASSES) for k in range(20)]
