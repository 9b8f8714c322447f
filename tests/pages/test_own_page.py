"""The page that makes a victim of a classifier of one's own."""

import io
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file
from test_pages import open_page, texts

sys.path.append(str(Path(__file__).parents[1] / "given"))
from networks import CLASSES, archive, network, pictures, saved

from dcp_core.data.datasets import DataError
from dcp_core.given import unpack
from dcp_core.models import zoo
from dcp_core.models.architectures import build


def test_files_are_checked_shown_and_accepted(home: Path, tmp_path: Path) -> None:
    app = open_page(
        "own",
        own_where="on this machine",
        own_model_path=str(saved(tmp_path, network())),
        own_data_path=archive(tmp_path),
    )
    app.button(key="own_check").click().run()
    assert not app.exception
    assert app.metric[0].value == "100.00 %"
    assert "the interval is wide" in app.warning[0].value
    assert "mine" not in zoo.names()
    app.text_input(key="own_name").set_value("mine").run()
    app.button(key="own_accept").click().run()
    assert not app.exception
    assert "is a victim now" in app.success[0].value
    assert zoo.card("mine").test_accuracy == 100
    assert "Audit it: one report" in [each.proto.label for each in app.get("page_link")]
    for page in ("playground", "quantized"):
        prefix = {"quantized": "q_"}.get(page, "")
        shown = open_page(page, **{f"{prefix}victim": "mine"})
        assert [each.value for each in shown.error] == [], page


@pytest.mark.parametrize("content", [b"", b"nothing", network()[:-30], b"\x80\x04pickle"])
def test_a_bad_file_is_told_in_a_sentence(home: Path, tmp_path: Path, content: bytes) -> None:
    app = open_page(
        "own",
        own_where="on this machine",
        own_model_path=str(saved(tmp_path, content)),
        own_data_path=archive(tmp_path),
    )
    app.button(key="own_check").click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert not app.metric


def test_a_missing_file_is_told_in_a_sentence(home: Path, tmp_path: Path) -> None:
    app = open_page(
        "own", own_where="on this machine", own_model_path="nowhere.onnx", own_data_path=archive(tmp_path)
    )
    app.button(key="own_check").click().run()
    assert "No such file" in app.error[0].value


def test_weights_of_a_named_network_are_checked(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build("resnet8", 4).state_dict(), path)
    data = archive(tmp_path, images=pictures(12)[0], labels=pictures(12)[1])
    given = {"own_where": "on this machine", "own_model_path": str(path), "own_data_path": data}
    app = open_page("own", **given)
    app.button(key="own_check").click().run()
    assert "name it with --network" in app.error[0].value
    app = open_page("own", **given, own_network="resnet8")
    app.button(key="own_check").click().run()
    assert not app.error
    assert "safetensors, resnet8, 4 classes" in texts(app)


def test_every_picker_of_victims_leads_to_the_page(home: Path) -> None:
    links = [each.proto.label for each in open_page("playground").get("page_link")]
    assert "Add your own classifier" in links
    assert "can run code" in texts(open_page("own"))


def zipped(path: Path, names: list[str]) -> Path:
    images, _ = pictures(len(names))
    with zipfile.ZipFile(path, "w") as file:
        for name, image in zip(names, images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            file.writestr(name, buffer.getvalue())
    return path


def test_an_archive_is_unpacked_by_class_and_cannot_leave_its_folder(tmp_path: Path) -> None:
    names = ["data/red/1.png", "../../red/2.png", "data/blue/1.png", "__MACOSX/red/1.png", "data/blue/readme.txt"]
    folder = unpack(zipped(tmp_path / "a.zip", names), tmp_path / "out")
    found = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.png"))
    assert found == ["out/blue/2.png", "out/red/0.png", "out/red/1.png"]
    assert folder == tmp_path / "out"
    assert {"blue", "red"} < set(CLASSES)


@pytest.mark.parametrize("names", [["1.png"], ["../1.png"], ["red/readme.txt"]])
def test_an_archive_without_classes_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match="folder"):
        unpack(zipped(tmp_path / "a.zip", names), tmp_path / "out")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a zip archive"):
        unpack(saved(tmp_path, b"PK\x03\x04 nothing", "a.zip"), tmp_path / "out")


def test_a_service_is_asked_only_after_consent_to_the_limits(home: Path) -> None:
    app = open_page("own", own_where="a prediction service", own_requests="2000", own_price="3")
    assert "yours or that you may test" in texts(app)
    (consent,) = app.checkbox
    assert "at most 2,000 requests, which cost at most 6.00" in consent.label
    assert app.button(key="own_check_service").disabled
