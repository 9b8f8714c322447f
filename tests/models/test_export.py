"""An exported file gives the same answers as the library, runs without torch, and is refused where impossible."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image

from dcp_core.data.tensors import to_tensor
from dcp_core.defenses import DEFENSES as REGISTRY
from dcp_core.defenses import (
    Deception,
    Defense,
    LabelOnly,
    ModelGuardS,
    NoDefense,
    RandomNoise,
    ReverseSigmoid,
    TopK,
    exportable,
    make_defense,
)
from dcp_core.defenses.chain import chain
from dcp_core.defenses.modelguard_s import StoredAnswers
from dcp_core.models import export, zoo
from dcp_core.models.defense_nodes import ExportError, defense_graph
from dcp_core.models.inference import predict
from dcp_core.models.onnx_model import open_session

PTQ = "signs-resnet8-ptq"
STORED = StoredAnswers(2 * torch.randn(80, 6, generator=torch.Generator().manual_seed(1)))
DEFENSES = [
    NoDefense(),
    Deception(),
    Deception(beta=0.7, tau=1.2, gamma=0.5),
    Deception(tau=0.5, perturb="confident", cap_odds=False, nu=100.0),
    ReverseSigmoid(),
    ReverseSigmoid(beta=1.0, cap_odds=False),
    LabelOnly(),
    TopK(k=3),
    TopK(k=100),
    ModelGuardS(epsilon=1.0).armed(STORED),
    ModelGuardS(epsilon=0.1).armed(STORED),
    make_defense("dcp_mgs", beta=0.6, epsilon=0.5).armed(STORED),
]


def run_nodes(graph: onnx.GraphProto, logits: torch.Tensor, **inputs: float) -> torch.Tensor:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    given = {"logits": logits.numpy()} | {name: np.array(value, np.float32) for name, value in inputs.items()}
    return torch.from_numpy(open_session(model.SerializeToString()).run(None, given)[0])


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    """From nearly even answers to ones whose top posterior rounds to 1."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(400, 6, generator=generator) * torch.logspace(-2, 2, 400)[:, None]


@pytest.mark.parametrize("baked", [True, False])
@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_the_nodes_answer_as_the_engine(defense: Defense, baked: bool, logits: torch.Tensor) -> None:
    ours = run_nodes(defense_graph(defense, 6, baked=baked), logits)
    off = (ours - defense(logits=logits)).abs().amax(-1)
    assert float((off <= 1e-5).double().mean()) >= 0.99  # the detector's step amplifies rounding for the rest
    assert float(off.max()) < 1e-3


@pytest.mark.parametrize("shift", [-1000.0, -120.0, 0.0, 95.0, 1000.0])
@pytest.mark.parametrize("cap_odds", [True, False])
@pytest.mark.parametrize("kind", [Deception, ReverseSigmoid])
def test_logits_of_any_size_keep_the_top_class_of_the_engine(
    kind: type[Deception] | type[ReverseSigmoid], cap_odds: bool, shift: float
) -> None:
    spread = torch.logspace(-1, 2.5, 500)[:, None]
    extreme = torch.randn(500, 6, generator=torch.Generator().manual_seed(1)) * spread + shift
    for gamma in (0.01, 0.2):  # so flat a curve still tells odds of e^100 from infinite ones
        defense = kind(beta=1.2, gamma=gamma, cap_odds=cap_odds)
        ours = run_nodes(defense_graph(defense, 6, baked=True), extreme)
        engine = defense(logits=extreme)
        assert float((ours - engine).abs().max()) < 1e-5
        first, second = engine.topk(2).values.T
        clear = first - second > 1e-5  # classes that all round to 0 leave as equals
        assert int(clear.sum()) > 300
        assert torch.equal(ours.argmax(-1)[clear], engine.argmax(-1)[clear])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"beta": 0.4}, Deception(beta=0.4)),
        ({"beta": 0.4, "tau": 1.1}, Deception(beta=0.4, tau=1.1)),
        ({"gamma": 0.7, "nu": 50.0}, Deception(gamma=0.7, nu=50.0)),
        ({"tau": -1.0}, Deception()),
    ],
)
def test_inputs_replace_the_defaults(given: dict[str, float], expected: Deception, logits: torch.Tensor) -> None:
    ours = run_nodes(defense_graph(Deception(), 6, baked=False), logits, **given)
    off = (ours - expected(logits=logits)).abs().amax(-1)
    assert float((off <= 1e-5).double().mean()) >= 0.99


def test_baked_parameters_cannot_be_changed() -> None:
    graph = defense_graph(Deception(beta=0.4), 6, baked=True)
    assert [value.name for value in graph.input] == ["logits"]


def test_defenses_without_nodes_are_named() -> None:
    with pytest.raises(
        ExportError,
        match=r"Random noise cannot be exported.*; choose one of none, dcp, rs, mgs, label, topk, dcp_mgs",
    ):
        defense_graph(RandomNoise(), 6, baked=True)
    for name in set(REGISTRY) - set(exportable()):
        with pytest.raises(ExportError):
            defense_graph(make_defense(name), 6, baked=True)
    assert {defense.name for defense in DEFENSES} == set(exportable())


@pytest.mark.parametrize(
    "defense",
    [
        chain(TopK, ReverseSigmoid)(k=3, beta=0.4),
        chain(TopK, ReverseSigmoid)(k=3, beta=0.4, cap_odds=False),
        chain(Deception, LabelOnly)(beta=0.8),
        chain(Deception, TopK)(k=2),
    ],
    ids=repr,
)
def test_the_nodes_of_any_chain_answer_as_the_engine(defense: Defense, logits: torch.Tensor) -> None:
    ours = run_nodes(defense_graph(defense, 6, baked=False), logits[:250])
    torch.testing.assert_close(ours, defense(logits=logits[:250]), rtol=0, atol=1e-4)


def test_a_file_with_a_codebook_has_the_victims_own() -> None:
    content, report = export.export(PTQ, make_defense("mgs", epsilon=1.0))
    assert report.exact_share >= 99
    assert report.added_bytes < 20_000
    constants = {each.name: each for each in onnx.load_from_string(content).graph.initializer}
    assert constants["defense_codebook"].dims[0] == len(zoo.card(PTQ).classes)


def test_a_victim_without_an_onnx_file_names_the_command(victim: zoo.Victim) -> None:
    with pytest.raises(zoo.VictimError, match="quantize --victim toy --method fp32"):
        export.export("toy", Deception())


@pytest.mark.parametrize("name", ["signs-resnet8", PTQ])
def test_the_report_tells_what_was_checked(name: str) -> None:
    content, report = export.export(name, Deception())
    assert report.pictures == 500
    assert report.network_difference <= 1e-5
    assert report.difference <= 1e-5
    assert report.exact_share >= 99
    assert report.bytes == len(content)
    assert 0 < report.added_bytes < 5000
    assert report.added_percent_64 > 0


def test_a_file_that_answers_otherwise_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        export, "defense_graph", lambda d, k, baked: defense_graph(Deception(beta=0.8), k, baked=True)
    )
    with pytest.raises(ExportError, match="pictures differ from the library"):
        export.export(PTQ, Deception(beta=0.9))


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchao", "onnx", "onnxscript", "pandas", "scipy", "dcp_core"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("defense", "baked"), [(Deception(beta=0.6), False), (TopK(k=2), False)])
def test_the_pages_script_runs_the_file_without_torch(defense: Defense, baked: bool, tmp_path: Path) -> None:
    card = zoo.card(PTQ)
    content, _ = export.export(PTQ, defense, baked=baked)
    (tmp_path / "victim.onnx").write_bytes(content)
    (tmp_path / "run.py").write_text(export.script(card, "victim.onnx", defense, baked=baked))
    names, pixels = [], []
    for number, side in enumerate((32, 32, 64)):
        picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{number}.png")
        names.append(f"{number}.png")
        pixels.append(to_tensor(picture, 32))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "run.py", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    expected = defense(logits=predict(zoo.load(PTQ).model, torch.stack(pixels)))
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, posterior in zip(lines, expected, strict=True):
        top = card.classes[int(posterior.argmax())]
        assert line.startswith(top)
        np.testing.assert_allclose([float(x) for x in line.removeprefix(top).split()], posterior, atol=1e-4)


def test_a_blocked_torch_is_really_blocked(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("import torch")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "run.py")], capture_output=True, check=False
    )
    assert done.returncode == 1
