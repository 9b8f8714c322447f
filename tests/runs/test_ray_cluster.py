"""Runs on a real Ray cluster on this machine; one node is killed while they work."""

import json
import threading
import time
from pathlib import Path

import pytest
from worlds import small_world

from dcp_core.results.rows import load_results
from dcp_core.runs import store
from dcp_core.runs.folder import folder_of
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.worker import run

ray = pytest.importorskip("ray", reason="Ray is optional: pip install -r requirements-ray.txt")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def test_a_sweep_that_loses_a_node_loses_no_run_and_does_none_twice(home: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    from dcp_core.runs.ray_cluster import run_on_cluster

    pool = small_world(tmp_path)
    specs = [RunSpec("small", "knockoff", {"epochs": 12}, budget=80, pool=pool, seed=seed) for seed in range(3)]
    whole = tmp_path / "whole"
    list(run(specs[0], whole, device="cpu"))  # what no cluster has touched

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    said: list[str] = []
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        driver = threading.Thread(
            target=run_on_cluster, args=(specs, cluster.address), kwargs={"say": said.append}, daemon=True
        )
        driver.start()
        folders = [folder_of(spec) for spec in specs]
        while not any(
            (folder / "training.pt").exists() or store.view(folder).phase == "training" for folder in folders
        ):
            assert driver.is_alive(), said
            time.sleep(0.1)
        assert any(store.view(folder).state == "running" for folder in folders)  # the page sees it
        cluster.remove_node(nodes[0], allow_graceful=False)
        driver.join(270)
        assert not driver.is_alive(), said
    finally:
        ray.shutdown()
        cluster.shutdown()

    assert [store.view(folder).state for folder in folders] == ["done"] * 3, said
    assert any("lost" in line for line in said)
    rows, problems = load_results(home / "results")
    assert not problems
    assert sorted(rows["seed"]) == [0, 1, 2]  # each run once
    one = json.loads((folders[0] / "result.json").read_text())["rows"][0]
    other = json.loads((whole / "result.json").read_text())["rows"][0]
    assert one["adversary_error"] == other["adversary_error"]
