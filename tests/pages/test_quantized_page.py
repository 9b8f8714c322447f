"""The Quantized page: the versions of a victim, and the file for download."""

import sys
from pathlib import Path

import pytest
from test_pages import open_page, texts

sys.path.append(str(Path(__file__).parents[1] / "given"))
from networks import archive, network, saved

from dcp_core.defenses import Deception
from dcp_core.given import accept, examine
from dcp_core.making import finish
from dcp_core.models import export, zoo

SIGNS = "signs-resnet8"
TITLE = "Signs (drawn by us), resnet8"


def test_the_page_shows_a_familys_measured_numbers(home: Path) -> None:
    app = open_page("quantized", q_victim=f"{TITLE}, int8 QAT")
    assert not app.error
    control = zoo.card(f"{SIGNS}-qat").recipe["fp32_control"]["test_accuracy"]
    assert f"accuracy of {control:.2f} %" in texts(app)
    (table,) = app.dataframe
    assert table.value["version"].tolist() == ["fp32", "fp32", "ptq", "qat"]
    assert table.value["accuracy (%)"].iloc[2] == pytest.approx(zoo.card(f"{SIGNS}-ptq").test_accuracy, abs=0.02)


def test_a_victim_without_versions_names_the_commands(victim: zoo.Victim) -> None:
    app = open_page("quantized", q_victim="Toy")
    assert "no eight-bit version" in app.info[0].value
    assert "python -m dcp_core quantize --victim toy --method ptq" in app.code[0].value


def test_a_click_makes_the_eight_bit_version_of_a_given_file(home: Path, tmp_path: Path) -> None:
    accept("mine", finish(examine(saved(tmp_path, network()), archive(tmp_path))))
    app = open_page("quantized", q_victim="mine")
    app.button(key="q_ptq").click().run()
    assert not app.exception
    assert not app.error
    assert zoo.card("mine-ptq").of == "mine"
    assert "q_ptq" not in [each.key for each in app.button]
    assert "Not measured yet" in app.info[0].value  # size and latency of both versions


def test_a_victim_without_versions_but_with_its_onnx_file_is_exported_all_the_same(home: Path) -> None:
    app = open_page("quantized", q_victim="GTSRB, resnet20")
    assert "no eight-bit version" in app.info[0].value
    app.button(key="q_make").click().run()
    assert "Compared with the library on 500 pictures" in app.success[0].value


def test_the_file_is_offered_only_after_its_check(home: Path) -> None:
    app = open_page("quantized", q_victim=TITLE, q_dcp_beta="0.6")
    assert not app.success
    app.button(key="q_make").click().run()
    assert not app.exception
    assert "Compared with the library on 500 pictures" in app.success[0].value
    expected = export.script(zoo.card(SIGNS), f"{SIGNS}-dcp.onnx", Deception(beta=0.6))
    assert expected.strip() in [code.value for code in app.code]
    app.slider(key="q_dcp_beta").set_value(0.7).run()
    assert not app.success  # another file: made and checked anew


def test_the_commands_of_missing_thieves_name_each_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcp_core.results.rows.SHIPPED", home)
    app = open_page("quantized", q_victim=TITLE)
    commands = "\n".join(code.value for code in app.code)
    for name in (SIGNS, f"{SIGNS}-ptq", f"{SIGNS}-qat"):
        assert f"attack --victim {name} " in commands
