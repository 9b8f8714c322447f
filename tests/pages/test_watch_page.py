"""The page of the clients of the prediction API."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pages import open_page

from dcp_core.api.watch import Watch


def test_clients_and_alarms_are_shown(home: Path) -> None:
    assert "No client yet" in open_page("watch").info[0].value
    watch, random = Watch(), np.random.default_rng(0)
    base = torch.rand(3, 32, 32)
    thief = torch.stack(
        [(base + far * torch.rand(3, 32, 32)).clamp(0, 1) for far in 10 ** random.uniform(-3, 0, 200)]
    )
    posteriors = torch.tensor([[0.6, 0.4]]).expand(200, 2)
    watch.see("*thief*", thief.numpy(), posteriors.numpy())
    watch.see("alice", thief[:3].numpy(), posteriors[:3].numpy())
    watch.save()
    app = open_page("watch")
    assert "\\*thief\\*" in app.warning[0].value  # drawn as it is, not as Markdown
    table = app.dataframe[0].value
    assert table["client"].tolist() == ["alice", "*thief*"]
    assert table["alarm"].tolist() == [False, True]
    assert table["uncertain_share"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("damage", ["{", '{"clients": 3}', '{"clients": [3]}'])
def test_a_damaged_file_is_like_none(home: Path, damage: str) -> None:
    watch = Watch()
    watch.path.parent.mkdir(parents=True)
    watch.path.write_text(damage)
    assert "No client yet" in open_page("watch").info[0].value


def test_a_damaged_row_hides_no_other(home: Path) -> None:
    watch = Watch()
    watch.see("alice", np.zeros((1, 3, 32, 32), np.float32), np.array([[0.9, 0.1]]))
    watch.client("bob")
    watch.save()
    content = json.loads(watch.path.read_text())
    content["clients"][0]["pictures"] = "many"
    watch.path.write_text(json.dumps(content))
    assert open_page("watch").dataframe[0].value["client"].tolist() == ["alice"]
