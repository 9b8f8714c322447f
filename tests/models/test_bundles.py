"""The folders for Triton and for the browser hold what these need, and the ONNX file needs no other input than pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from dcp_core.cli import main
from dcp_core.defenses import Deception
from dcp_core.models import zoo
from dcp_core.models.bundles import for_triton, for_web, write_bundle
from dcp_core.models.export import ExportError
from dcp_core.models.onnx_model import open_session

VICTIM = "signs-resnet8"


def test_the_triton_repository_follows_the_published_schema_and_fits_the_file():
    parts, _ = for_triton(VICTIM, Deception(beta=0.9))
    root = f"{VICTIM}-dcp/"
    assert set(parts) == {root + "config.pbtxt", root + "labels.txt", root + "1/model.onnx"}
    config = text_format.Parse(parts[root + "config.pbtxt"].decode(), model_config_pb2.ModelConfig())
    assert config.name == f"{VICTIM}-dcp"
    session = open_session(parts[root + "1/model.onnx"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert [(each.name, list(each.dims)) for each in config.input] == [(given.name, list(given.shape[1:]))]
    assert [(each.name, list(each.dims)) for each in config.output] == [(answer.name, list(answer.shape[1:]))]
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert config.max_batch_size > 1
    assert parts[root + config.output[0].label_filename].decode().splitlines() == list(zoo.card(VICTIM).classes)


def test_the_file_answers_with_the_chosen_strength_without_further_inputs():
    pixels = np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32)
    weak, strong = (
        open_session(for_web(VICTIM, Deception(beta=beta))[0]["model.onnx"]).run(None, {"pixels": pixels})[0]
        for beta in (0.0, 1.2)
    )
    assert np.abs(weak - strong).sum(1).max() > 0.1


def test_a_class_name_cannot_end_the_script_of_the_page(monkeypatch: pytest.MonkeyPatch):
    card = zoo.card(VICTIM)
    evil = ("</script><script>alert(1)</script>", *card.classes[1:])
    monkeypatch.setattr(zoo, "card", lambda name: type(card)(**{**vars(card), "classes": evil}))
    parts, _ = for_web(VICTIM, Deception())
    assert parts["index.html"].decode().count("</script>") == 1


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ExportError, match="not empty"):
        write_bundle({"a/b": b"1"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_writes_each_kind_and_says_how_to_use_it(tmp_path: Path):
    for use, file, said in (
        ("triton", f"{VICTIM}-dcp/1/model.onnx", "tritonserver"),
        ("web", "index.html", "npm"),
    ):
        done = CliRunner().invoke(
            main, ["export", "--defense", "dcp", "--beta", "0.7", "--for", use, "--to", str(tmp_path / use)]
        )
        assert done.exit_code == 0, done.output
        assert (tmp_path / use / file).exists()
        assert said in done.output
    assert json.loads((tmp_path / "web" / "package.json").read_text())["dependencies"].keys() == {
        "onnxruntime-web"
    }
