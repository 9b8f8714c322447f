"""Comparison of quantized versions: the content of a row, and damaged files of rows."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from dcp_core.costs import quantized
from dcp_core.models import zoo
from dcp_core.models.inference import predict

SIGNS = "signs-resnet8"


@pytest.mark.parametrize("member", [SIGNS, f"{SIGNS}-ptq", f"{SIGNS}-qat"])
def test_every_version_leads_to_the_whole_family(member: str) -> None:
    assert quantized.family(member) == {"fp32": SIGNS, "ptq": f"{SIGNS}-ptq", "qat": f"{SIGNS}-qat"}


def test_a_victim_without_versions_is_its_own_family(victim: zoo.Victim) -> None:
    assert quantized.family("toy") == {"fp32": "toy"}
    assert [way.engine for way in quantized.victim_versions("toy")] == [quantized.EAGER]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return quantized.side_by_side(quantized.victim_versions(SIGNS), images, torch.zeros(64).long(), seconds=0.02)


def test_rows_say_what_each_way_answers_and_weighs(rows: pd.DataFrame) -> None:
    assert rows["precision"].tolist() == ["fp32", "fp32", "ptq", "qat"]
    assert rows["engine"].tolist() == [quantized.EAGER, *[quantized.RUNTIME] * 3]
    assert rows["bytes"].iloc[2] == zoo.size(f"{SIGNS}-ptq", zoo.ONNX) < 0.3 * rows["bytes"].iloc[0]
    assert (rows[["ms_1", "ms_64"]] > 0).all(axis=None)
    assert (rows["ms_64"] > rows["ms_1"]).all()
    first, second, ptq = rows["l1"].iloc[:3]
    assert first == 0
    assert second < 1e-4 < ptq
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    same, other = (predict(zoo.load(name).model, images).argmax(1) for name in (SIGNS, f"{SIGNS}-ptq"))
    assert rows["agreement"].iloc[2] == pytest.approx(100 * float((same == other).double().mean()), abs=1e-3)
    assert rows["accuracy"].iloc[2] == pytest.approx(100 * float((other == 0).double().mean()), abs=1e-3)


def test_stored_rows_come_back_and_replace_those_of_the_same_victim(rows: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    quantized.save_measured(rows.assign(victim="another"), path)
    quantized.save_measured(rows, path)
    quantized.save_measured(rows.assign(ms_1=9.0), path)
    found = quantized.load_measured(path)
    assert found["victim"].value_counts().to_dict() == {"another": 4, SIGNS: 4}
    assert (found.loc[found["victim"] == SIGNS, "ms_1"] == 9).all()
    assert f",{rows['bytes'].iloc[0]}," in path.read_text()  # bytes stay whole numbers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": 101.0}, "out of its range"),
        ({"l1": -0.1}, "out of its range"),
        ({"ms_64": 0.0}, "above 0"),
        ({"bytes": "many"}, "cannot be read"),
        ({"hardware": None}, "'hardware' must be given"),
    ],
)
def test_rows_that_cannot_be_are_refused(
    change: dict[str, object], words: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.assign(**change).to_csv(tmp_path / "measured.csv", index=False)
    with pytest.raises(quantized.MeasurementError, match=words):
        quantized.load_measured(tmp_path / "measured.csv")
    rows.drop(columns=list(change)).to_csv(tmp_path / "measured.csv", index=False)
    with pytest.raises(quantized.MeasurementError):
        quantized.load_measured(tmp_path / "measured.csv")


def test_shipped_measurements_are_of_the_shipped_victims() -> None:
    found = quantized.load_measured()
    assert set(found["victim"]) >= {SIGNS, "cifar10-resnet20"}
    for row in found.itertuples():
        assert row.accuracy == pytest.approx(zoo.card(row.name).test_accuracy, abs=0.02)
        file = zoo.WEIGHTS if row.engine == quantized.EAGER else zoo.ONNX
        assert row.bytes == zoo.size(row.name, file)


def test_drift_is_that_of_the_stored_answers() -> None:
    clean, ptq = (zoo.test_answers(name)[0].softmax(-1) for name in (SIGNS, f"{SIGNS}-ptq"))
    drift = quantized.stored_drift(SIGNS)
    torch.testing.assert_close(drift["ptq"], (ptq - clean).abs().sum(1))
    assert float(drift["ptq"].mean()) < 0.05
