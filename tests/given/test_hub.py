"""Victims and pictures of the Hugging Face Hub, from a small server that speaks its protocol."""

import hashlib
import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fake_hub import COMMIT, fake_hub
from PIL import Image
from safetensors.torch import save

from dcp_core.cli import main
from dcp_core.data.datasets import DataError
from dcp_core.given.hub import HubError, Place, fetch_model, of_a_split, place
from dcp_core.given.parquet import read_parquet
from dcp_core.models import zoo
from dcp_core.vision import torchvision

CLASSES = ("cat", "dog", "bird", "fish")


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 40 + seed), 64).convert("RGB").save(file, "PNG")
    return file.getvalue()


PICTURES = [picture(seed) for seed in range(12)]


def parquet(labels: list[int | None], named: bool = True) -> bytes:
    """A file of random pictures with these labels, as the library `datasets` writes it."""
    rows = {"img": [{"bytes": content, "path": None} for content in PICTURES[: len(labels)]]}
    table = pa.table(rows | {"label": labels})
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    about = json.dumps({"info": {"features": features}})
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": about} if named else {}), file)
    return file.getvalue()


def test_a_place_on_the_hub_is_told_from_a_path() -> None:
    assert place("hf:microsoft/resnet-18") == Place("model", "microsoft/resnet-18", None)
    assert place("timm:resnet18.a1_in1k@v1") == Place("model", "timm/resnet18.a1_in1k", "v1")
    assert place(f"hf-dataset:beans@{COMMIT}") == Place("dataset", "beans", COMMIT)
    assert place("folder/model.onnx") is None
    for wrong in ("hf:", "hf:resnet", "timm:a/b", "hf:../x/y", "hf:a/b@", "hf-dataset:a/b/c"):
        with pytest.raises(HubError, match="hf:OWNER/NAME"):
            place(wrong)


def test_the_test_pictures_are_chosen_before_others_and_parquet_before_single_files() -> None:
    names = ["data/train-0.parquet", "data/test-1.parquet", "data/test-0.parquet", "test/cat/a.png", "latest.jpg"]
    assert of_a_split(names) == ["data/test-0.parquet", "data/test-1.parquet"]
    assert of_a_split(["train/a.png", "validation/a.png"]) == ["validation/a.png"]
    assert of_a_split(["cat/a.png", "README.md"]) == ["cat/a.png"]


def test_pictures_and_classes_are_read_from_parquet_files(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(parquet([3, 0, None, 1]))
    items, labels, classes = read_parquet([path, path])
    assert (labels, classes) == ([3, 0, 1] * 2, CLASSES)
    assert items[2] == PICTURES[3]
    for damage, words in ((parquet([0, 1], named=False), "no column"), (b"PAR1", "not a readable")):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=words):
            read_parquet([path])


@pytest.mark.skipif(find_spec("huggingface_hub") is not None, reason="the optional library is here")
def test_without_the_optional_library_the_message_says_how_to_get_it() -> None:
    with pytest.raises(HubError, match="pip install huggingface_hub"):
        fetch_model(Place("model", "a/b", None))


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the library's settings, which it reads from the environment when it is imported."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))

    def settings(address: str = "http://127.0.0.1:1", offline: bool = False) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)

    return settings


def add(model: str, data: str) -> str:
    """What `victims add` says."""
    return CliRunner().invoke(main, ["victims", "add", "mine", model, "--data", data, "--replace", "--yes"]).output


def test_a_model_and_pictures_of_the_hub_become_a_victim_also_offline(hub: Callable[..., None]) -> None:
    torchvision()  # timm imports it, see there
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet", num_classes=4)
    config = {"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3, 64, 64]}}
    files = {
        "config.json": json.dumps(config).encode(), "model.safetensors": save(network.state_dict()),
        "pytorch_model.bin": b"code", "modeling.py": b"code",
    }  # fmt: skip
    parts = {f"data/test-0000{part}-of-00002.parquet": parquet([0, 1, 2, 3] * 3) for part in range(2)}
    pictures = {**parts, "data/train-00000-of-00001.parquet": b"large"}
    model, data = "timm:toy", "hf-dataset:some/pictures"
    with fake_hub({"models/timm/toy": files, "datasets/some/pictures": pictures}) as (address, asked):
        hub(address)
        assert "on 24 test pictures" in add(model, data)
        assert "the Hub has no model some/nothing" in add("hf:some/nothing", data)
    downloaded = {path.rsplit("/", 1)[1] for path in asked if "/resolve/" in path}
    assert downloaded == {"config.json", "model.safetensors", *(name.split("/")[1] for name in parts)}
    recipe = zoo.card("mine").recipe
    assert recipe["file_sha256"] == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert (recipe["file"], recipe["test_pictures"]) == (f"hf:timm/toy@{COMMIT}", f"{data}@{COMMIT}")

    hub(offline=True)
    assert "on 24 test pictures" in add(model, data)
    assert zoo.card("mine").recipe == recipe
    for missing in ((model, "hf-dataset:some/others"), ("hf:some/other", data)):
        assert "is not on this machine, and HF_HUB_OFFLINE is set" in add(*missing)
    hub(offline=False)
    assert "the Hub cannot be reached" in add("hf:some/other", data)
