"""Costs of a small victim: which defenses are measured, their rows, and the reasons for missing ones."""

import json

import pandas as pd
import pytest
import torch

from dcp_core.costs import energy, hidden_costs, measure, variants
from dcp_core.costs.energy import Meter
from dcp_core.defenses import DEFENSES
from dcp_core.models import auxiliary, storing, zoo
from dcp_core.models.architectures import build
from dcp_core.results.schema import check


def give_surrogate() -> None:
    torch.manual_seed(1)
    network = build("resnet8", 4)
    described = auxiliary.AuxiliaryCard("surrogate", "toy", "resnet8", "noise", 500, {}, 12.5, 25.0, 0, "")
    auxiliary.keep(network, described)


def measured(
    monkeypatch: pytest.MonkeyPatch, **options: object
) -> tuple[measure.Costs, list[measure.MeasurementProgress]]:
    monkeypatch.setattr(measure, "BATCHES", {1: 1, 2: 1})
    monkeypatch.setattr(measure, "ENERGY_BATCH", 2)
    steps, told = measure.measure("toy", seconds=0.01, **options), []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return end.value, told


def test_costs_are_rows_of_the_common_schema_for_every_defense_and_both_literal_versions(
    victim: zoo.Victim, monkeypatch: pytest.MonkeyPatch
):
    give_surrogate()
    found, told = measured(monkeypatch)
    text = pd.DataFrame([{"where": "a test"} | row for row in found.rows])
    rows, problems = check(text.astype(object).where(text.notna(), "").astype(str))
    assert not problems
    ways = set(zip(rows["defense"], rows["implementation"], rows["batch"], strict=True))
    here = {(name, "here", batch) for name in DEFENSES if name != "am" for batch in (1, 2)}
    assert ways == here | {(name, "literal", batch) for name in ("mad", "grad2") for batch in (1, 2)}
    assert (rows.loc[rows["defense"] == "none", "latency_ratio"] == 1).all()
    assert (rows["latency_ms"] > 0).all()
    assert rows["energy_mj"].isna().all()
    assert "energy" in found.no_energy
    assert rows["clock"].eq("wall").all()
    grad2 = rows[rows["defense"] == "grad2"].iloc[0]
    assert (grad2["second_network"], grad2["training_seconds"]) == ("surrogate", 12.5)
    assert grad2["second_parameters"] == sum(p.numel() for p in build("resnet8", 4).parameters())
    assert [step.fraction for step in told] == sorted(step.fraction for step in told)
    assert told[-1].queries > 0


def test_a_missing_second_network_is_named_with_its_command_and_has_no_row(victim: zoo.Victim):
    found, missing = variants.defense_variants("toy")
    assert set(missing) == {"am", "grad2"}
    assert "python -m dcp_core auxiliary --victim toy --kind surrogate" in missing["grad2"]
    assert [way.name for way in found if way.defense.name == "mad"] == ["mad", "mad, literal"]
    assert "grad2, literal" not in [way.name for way in found]


def test_both_implementations_give_the_same_answers(victim: zoo.Victim):
    give_surrogate()
    # The victim of the tests is MAD's untrained surrogate itself, so that there is no gradient to turn: another one.
    torch.manual_seed(2)
    storing.save(build("resnet8", 4), victim.card, torch.randn(50, 4), torch.arange(50) % 4)
    found = {way.name: way for way in variants.defense_variants("toy")[0]}
    pixels = torch.rand(3, 3, 32, 32)
    for name in ("mad", "grad2"):
        ours, literal = found[name].answer(pixels), found[f"{name}, literal"].answer(pixels)
        assert torch.allclose(ours, literal, atol=1e-4)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter of energy that has grown by a joule at each look."""
    count = iter(range(0, 10**9, 1000))
    gauge = Meter("a counter of ours", lambda: (next(count),), 1e-3, (2**64,))
    monkeypatch.setattr(energy, "meter", lambda device: gauge)
    monkeypatch.setattr(energy, "REPORT_EVERY", 0.001)


def load(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(measure.os, "getloadavg", lambda: (value, 0.0, 0.0))


def test_energy_of_a_query_is_shown_where_a_counter_is_read(
    victim: zoo.Victim, counter: None, monkeypatch: pytest.MonkeyPatch
):
    load(monkeypatch, 0.0)
    found, _ = measured(monkeypatch, pause=0.002)
    rows = pd.DataFrame(found.rows)
    known = rows[rows["batch"] == 2]
    assert known["energy_mj"].notna().all()
    assert (known["energy_low_mj"] <= known["energy_mj"]).all()
    assert known["energy_method"].eq("a counter of ours").all()
    assert rows.loc[rows["batch"] == 1, "energy_mj"].isna().all()
    assert found.no_energy == ""
    assert rows["reason"].isna().all()


def test_a_busy_processor_gives_no_energy_because_its_counter_sees_the_others_too(
    victim: zoo.Victim, counter: None, monkeypatch: pytest.MonkeyPatch
):
    load(monkeypatch, 99.0)
    found, _ = measured(monkeypatch, pause=0.002)
    assert "energy_mj" not in pd.DataFrame(found.rows)
    assert "measures the whole processor, and other programs" in found.no_energy


@pytest.mark.parametrize("clock", ["wall", "processor"])
def test_a_busy_machine_makes_wall_times_unreliable_but_not_processor_times(
    victim: zoo.Victim, clock: str, monkeypatch: pytest.MonkeyPatch
):
    load(monkeypatch, 99.0)
    rows = pd.DataFrame(measured(monkeypatch, clock=clock)[0].rows)
    assert rows["unreliable"].eq(clock == "wall").all()
    assert rows["clock"].eq(clock).all()
    assert rows["reason"].str.contains("load 99.0 besides this one").all()
    assert json.loads(rows["versions"].iloc[0])["torch"] == torch.__version__


def test_work_that_began_meanwhile_is_noticed_and_ours_is_not_taken_for_it(
    victim: zoo.Victim, monkeypatch: pytest.MonkeyPatch
):
    cores = float(measure.os.cpu_count() or 1)
    for then, busy in ((cores + 0.4, False), (cores + 1.6, True)):  # with our own thread in it
        loads = iter([0.0, then])
        monkeypatch.setattr(measure.os, "getloadavg", lambda loads=loads: (next(loads), 0.0, 0.0))
        assert pd.DataFrame(measured(monkeypatch)[0].rows)["unreliable"].all() == busy


def test_processor_time_is_refused_where_it_is_no_latency(victim: zoo.Victim):
    with pytest.raises(ValueError, match="--device cpu --threads 1"):
        next(measure.measure("toy", device="cuda", clock="processor"))


def test_peak_memory_counts_what_is_held_at_once():
    def work() -> None:
        first = torch.ones(1000)  # 4000 bytes
        second = first + 1  # 8000 held
        del first
        second.sum()
        torch.ones(500)  # 4000 + 2000

    peak, method = hidden_costs.peak_memory(work, "cpu")
    assert 8000 <= peak < 8000 + 200
    assert "profiler" in method


def test_an_undefended_victim_needs_no_second_network(victim: zoo.Victim):
    from dcp_core.defenses import make_defense

    assert hidden_costs.second_network(make_defense("dcp"), "toy") is None
    untrained = hidden_costs.second_network(make_defense("mad"), "toy")
    assert untrained is not None
    assert (untrained.kind, untrained.seconds) == ("untrained", 0.0)
