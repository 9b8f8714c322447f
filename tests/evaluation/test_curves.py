import numpy as np
import pytest
import torch

from dcp_core.defenses import DEFENSES, Deception, LabelOnly, RandomNoise
from dcp_core.evaluation import curves, metrics
from dcp_core.evaluation.curves import tradeoff_curve

GENERATOR = torch.Generator().manual_seed(7)
LOGITS = torch.randn(301, 6, generator=GENERATOR) * 3
LABELS = torch.where(torch.rand(301, generator=GENERATOR) < 0.9, LOGITS.argmax(-1), 0)


@pytest.mark.parametrize("name", ["dcp", "rs", "topk", "rounding"])
@pytest.mark.parametrize("chunk", [1, 1000, curves.CHUNK])
def test_each_row_is_what_one_strength_gives_by_itself(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(curves, "CHUNK", chunk)
    defense = DEFENSES[name]()
    curve = tradeoff_curve(defense, LOGITS, LABELS)
    clean = LOGITS.softmax(-1)
    assert curve["strength"].tolist() == list(defense.grid)
    assert set(curve["n_test"]) == {301}
    for _, row in curve.iterrows():
        value = int(row["strength"]) if name in ("topk", "rounding") else row["strength"]
        answers = type(defense)(**{defense.strength: value})(logits=LOGITS)
        l1 = (answers - clean).abs().sum(-1)
        confidence, top = answers.max(-1)
        expected = {
            "defender_error": float((top != LABELS).double().mean() * 100),
            "l1": float(l1.mean()),
            "touched": float((l1 > 1e-3).double().mean() * 100),
            "changed": float((top != clean.argmax(-1)).double().mean() * 100),
            "entropy": float(torch.special.entr(answers).sum(-1).mean()),
            "ece": float(metrics.expected_calibration_error(confidence, top == LABELS)),
            "l1_q05": float(np.percentile(l1.numpy(), 5)),
            "l1_q50": float(np.percentile(l1.numpy(), 50)),
            "l1_q95": float(np.percentile(l1.numpy(), 95)),
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-3)


def test_two_answers_by_hand_under_dcp():
    # posteriors (.9, .1) and (.6, .4), DCP at beta = tau = .8: the first is above tau and stays.
    logits = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
    curve = tradeoff_curve(Deception(gamma=0.2), logits, torch.tensor([0, 1]), [0.0, 0.8]).set_index("strength")
    assert curve["touched"].tolist() == [0, 50]
    assert curve["changed"].tolist() == [0, 0]
    assert curve["defender_error"].tolist() == [50, 50]
    # Noise of .4: .8 (1/2 - S(.2 log(2/3))) = .8 (.5 - .479737) = .016211; .6 of 1.016211 is .590429.
    assert curve.loc[0.8, "l1"] == pytest.approx((2 * (0.6 - 0.590429)) / 2, abs=1e-5)
    assert curve.loc[0.8, "l1_q95"] == pytest.approx(0.95 * 0.019142, abs=1e-5)


def test_strength_0_of_dcp_costs_nothing():
    first = tradeoff_curve(Deception(), LOGITS, LABELS).iloc[0]
    assert (first[["l1", "l1_q95"]] < 1e-6).all()
    assert first[["touched", "changed"]].tolist() == [0, 0]
    assert first["defender_error"] == pytest.approx(float(metrics.error(LOGITS, LABELS)))


def test_a_defense_without_a_strength_gives_one_row():
    curve = tradeoff_curve(LabelOnly(), LOGITS, LABELS)
    assert len(curve) == 1
    assert np.isnan(curve["strength"][0])
    assert curve["changed"][0] == 0
    assert curve["entropy"][0] == 0


def test_a_randomised_defense_repeats_with_its_seed():
    first, again, other = (
        tradeoff_curve(RandomNoise(), LOGITS, LABELS, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert first.equals(again)
    assert not first.equals(other)


def test_bands_hold_their_curve_and_shrink_with_the_test_set():
    curve = tradeoff_curve(Deception(), LOGITS, LABELS)
    larger = tradeoff_curve(Deception(), LOGITS.repeat(16, 1), LABELS.repeat(16))
    for name in ("defender_error", "touched", "changed", "l1", "entropy"):
        assert (curve[f"{name}_low"] <= curve[name] + 1e-9).all()
        assert (curve[f"{name}_high"] >= curve[name] - 1e-9).all()
        width = curve[f"{name}_high"] - curve[f"{name}_low"]
        narrower = larger[f"{name}_high"] - larger[f"{name}_low"]
        assert (narrower <= width / 3 + 1e-6).all()  # sqrt(16) = 4, Wilson's pull to the middle aside


@pytest.mark.parametrize(("logits", "labels"), [(LOGITS, LABELS[:-1]), (LOGITS[:0], LABELS[:0])])
def test_answers_without_a_label_each_are_refused(logits: torch.Tensor, labels: torch.Tensor):
    with pytest.raises(ValueError, match="as many labels"):
        tradeoff_curve(Deception(), logits, labels)
