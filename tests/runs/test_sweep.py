"""Plans of runs, and answers that are computed once for many runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from worlds import small_world

from dcp_core.attacks import Oracle
from dcp_core.attacks.transfer_set import picking_order
from dcp_core.cli import main
from dcp_core.data.datasets import load
from dcp_core.defenses import NoDefense
from dcp_core.models import zoo
from dcp_core.models.inference import to_pixels
from dcp_core.runs import launch, shared_answers, store
from dcp_core.runs.folder import folder_of
from dcp_core.runs.plans import PlanError, expand, read_plan
from dcp_core.runs.spec import RunSpec

PLAN = """
victims = ["small"]
seeds = [0, 1]
budgets = [30]
[[attacks]]
name = "knockoff"
pools = ["POOL"]
epochs = 1
treatment = ["as-is", "top-1"]
[[defenses]]
name = "none"
[[defenses]]
name = "dcp"
beta = [0.5, 0.9]
"""


def test_a_plan_is_every_combination_once_and_no_strength_multiplies_no_defense() -> None:
    plan = {
        "victims": ["a"],
        "seeds": [0, 1],
        "attacks": [{"name": "knockoff", "pools": ["textures"], "treatment": ["as-is", "top-1"]}],
        "defenses": [{"name": "none"}, {"name": "dcp", "beta": [0.5, 0.9]}, {"name": "dcp"}],
    }
    specs = expand(plan)
    assert len(specs) == 2 * 2 * 3  # beta 0.9 is dcp's default: the last entry adds nothing
    assert sum(spec.defense == "none" for spec in specs) == 4


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({}, "must name its victims"),
        ({"victims": ["a"], "seed": [1]}, "unknown entry 'seed'"),
        ({"victims": ["a"], "attacks": ["dfme"]}, r"\[\[attacks\]\]"),
        ({"victims": ["a"], "defenses": [{"beta": 1}]}, "needs a name"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(plan: dict, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        expand(plan)


def test_a_file_that_is_no_plan_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("victims = [")
    with pytest.raises(PlanError, match="not a readable TOML"):
        read_plan(tmp_path / "plan.toml")


def test_a_cached_victim_answers_as_the_victim_and_the_oracle_still_counts(home: Path, tmp_path: Path) -> None:
    source = small_world(tmp_path)
    specs = [RunSpec("small", "knockoff", {"epochs": 1}, budget=60, pool=source, seed=seed) for seed in (0, 1)]
    shared_answers.share(specs)
    victim, pool = zoo.load("small"), load(source, "train")
    model = shared_answers.cached_victim(victim, pool)
    assert isinstance(model, shared_answers.CachedVictim)
    asked = pool.images[:100]  # some are noted, some are not
    known = [place is not None for place in model.cache.find(to_pixels(asked))]
    assert 0 < sum(known) < 100
    answers = Oracle(model, NoDefense(), 90).query(asked)
    expected = Oracle(victim.model, NoDefense(), 90).query(asked)
    assert len(answers) == 90  # the budget holds
    assert torch.allclose(answers, expected, atol=1e-6)
    near = to_pixels(asked[:1]) + 1e-4  # rounds to a noted picture, and is not one
    assert model.cache.find(near) == [None]


def test_answers_to_a_pool_of_another_size_are_shared_too(home: Path, tmp_path: Path) -> None:
    small_world(tmp_path)
    path = tmp_path / "large.npz"
    np.savez(path, x_train=np.random.default_rng(0).integers(0, 256, (60, 48, 48, 3), dtype=np.uint8))
    shared_answers.share(
        [RunSpec("small", "knockoff", {"epochs": 1}, budget=40, pool=str(path), seed=seed) for seed in (0, 1)]
    )
    victim, pool = zoo.load("small"), load(str(path), "train")
    asked: list[int] = []
    victim.model.register_forward_pre_hook(lambda module, given: asked.append(len(given[0])))
    model = shared_answers.cached_victim(victim, pool)
    oracle = Oracle(model, NoDefense(), 60, shape=(3, 48, 48), side=victim.card.size)
    picked = torch.cat([picking_order(60, seed)[:40] for seed in (0, 1)]).unique()
    asked.clear()  # the oracle's trial
    answers = oracle.query(pool.images[picked])
    assert asked == []
    plain = Oracle(victim.model, NoDefense(), 60, shape=(3, 48, 48), side=victim.card.size)
    torch.testing.assert_close(answers, plain.query(pool.images[picked]))


def test_a_sweep_runs_its_plan_in_the_background_and_skips_what_is_done(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(launch, "slots", lambda: 1)
    (tmp_path / "plan.toml").write_text(
        PLAN.replace("POOL", small_world(tmp_path))
        .replace('["as-is", "top-1"]', '"as-is"')
        .replace("[0, 1]", "[0]")
        .replace("[0.5, 0.9]", "0.5")
    )
    said = CliRunner().invoke(main, ["sweep", str(tmp_path / "plan.toml")])
    assert said.exit_code == 0, said.output
    assert "2 runs, 0 of them done" in said.output
    assert {view.state for view in store.views()} == {"done"}
    again = CliRunner().invoke(main, ["sweep", str(tmp_path / "plan.toml"), "--list"])
    assert "2 runs, 2 of them done" in again.output


def test_a_truncated_result_is_named_and_stops_neither_the_list_nor_the_other_runs(
    home: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace("POOL", "textures"))
    specs = read_plan(plan)
    broken = folder_of(specs[0]) / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"rows": [{"source": "meas')
    listed = CliRunner().invoke(main, ["sweep", str(plan), "--list"])
    assert listed.exit_code == 0
    assert f"{broken} cannot be read" in listed.output
    assert f"{len(specs)} runs, 0 of them done" in listed.output
    assert listed.output.count("dcp_core attack") == len(specs) - 1

    attack = CliRunner().invoke(main, specs[0].command.split()[3:])
    assert attack.exit_code == 1
    assert f"{broken} cannot be read" in attack.output
    assert "delete this file" in attack.output
