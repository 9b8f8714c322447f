"""The commands `quantize` and `export` as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from dcp_core.cli import main
from dcp_core.defenses import ReverseSigmoid
from dcp_core.models import storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict
from dcp_core.models.onnx_model import OnnxClassifier, open_session


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def trained(home: Path, tmp_path: Path) -> Path:
    """A victim `own` of two classes, sure of its answers, and its data set."""
    dice = np.random.default_rng(0)
    x = (dice.random((60, 4, 4, 3)).repeat(4, 1).repeat(4, 2) * 255).astype(np.uint8)
    path = tmp_path / "own.npz"
    np.savez(
        path, x_train=x, y_train=np.arange(60) % 2, x_test=x[:20], y_test=np.arange(20) % 2, classes=["no", "yes"]
    )
    torch.manual_seed(0)
    model = build("resnet8", 2).eval()
    torch.nn.init.normal_(model.network[-1].weight, std=20)
    images = torch.from_numpy(x[:20]).permute(0, 3, 1, 2)
    card = zoo.Card("own", "Own", str(path), "resnet8", ("no", "yes"), 16)
    storing.save(model, card, predict(model, images), torch.arange(20) % 2)
    return path


def test_qat_makes_a_victim_with_its_control(trained: Path) -> None:
    result = run("quantize", "--victim", "own", "--method", "qat", "--epochs", 2, "--lr", 1e-5, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "fp32 fine-tuned for the same steps" in result.output
    card = json.loads(run("victims", "own-qat").output)
    assert (card["precision"], card["of"], card["recipe"]["epochs"]) == ("qat", "own", 2)
    assert card["recipe"]["bytes"] == zoo.size("own-qat", zoo.ONNX)
    assert 0 <= card["recipe"]["fp32_control"]["agreement"] <= 100
    assert card["parameters"] == zoo.card("own").parameters
    logits, _ = zoo.test_answers("own-qat")
    images = torch.from_numpy(np.load(trained)["x_test"]).permute(0, 3, 1, 2)
    torch.testing.assert_close(logits, predict(zoo.load("own-qat").model, images))


def test_an_fp32_victim_gets_its_onnx_file_and_is_exported(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    refused = run("export", "--victim", "own", "--to", file)
    assert refused.exit_code == 1
    assert "quantize --victim own --method fp32" in refused.output
    result = run("quantize", "--victim", "own", "--method", "fp32")
    assert result.exit_code == 0, result.output
    assert isinstance(zoo.load("own").model, OnnxClassifier)
    result = run("export", "--victim", "own", "--defense", "rs", "--beta", 0.5, "--baked", "--to", file)
    assert result.exit_code == 0, result.output
    assert "Compared with the library on 500 pictures" in result.output
    pixels = torch.rand(3, 3, 16, 16)
    (ours,) = open_session(file.read_bytes()).run(None, {"pixels": pixels.numpy()})
    expected = ReverseSigmoid(beta=0.5)(logits=predict(zoo.network("own"), pixels))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    compile((tmp_path / "own.py").read_text(), "own.py", "exec")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("quantize", "--victim", "nobody"), "no victim 'nobody'"),
        (("quantize", "--victim", "signs-resnet8-ptq"), "take signs-resnet8 instead"),
        (("export", "--victim", "signs-resnet8-ptq", "--defense", "random"), "cannot be exported"),
        (("export", "--victim", "signs-resnet8-ptq", "--to", "."), "is a folder"),
        (("export", "--victim", "signs-resnet8-ptq", "--beta", "7"), "between 0 and 1.5"),
    ],
)
def test_mistakes_get_a_sentence(home: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output
