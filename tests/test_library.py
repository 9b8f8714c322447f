"""What `import dcp_core` offers, and that the README's examples run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dcp_core
from dcp_core.attacks import ATTACKS
from dcp_core.defenses import DEFENSES
from dcp_core.defenses.chain import Chain

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", dcp_core.__all__)
def test_every_public_name_exists_and_explains_itself(name: str) -> None:
    thing = getattr(dcp_core, name)
    assert name in ("ATTACKS", "DEFENSES") or thing.__doc__
    assert re.search(rf'^    "{name}",  # \w', (ROOT / "dcp_core/__init__.py").read_text(), re.MULTILINE)


def test_every_defense_and_attack_that_is_written_as_a_class_is_public() -> None:
    for kind in (*DEFENSES.values(), *ATTACKS.values()):
        if issubclass(kind, Chain):  # made by `chain`
            continue
        assert getattr(dcp_core, kind.__name__) is kind
        assert kind.__name__ in dcp_core.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dcp_core.nothing  # type: ignore[attr-defined]


def test_importing_the_library_loads_nothing_slow() -> None:
    slow = ("streamlit", "torchvision", "onnxruntime", "torchao", "scipy", "plotly", "dcp_core.runs", "setuptools")
    code = f"import dcp_core, sys; print([name for name in {slow!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"


def test_the_readmes_examples_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(500) % 2
    pictures = (60 + 100 * labels[:, None, None, None] + generator.integers(0, 60, (500, 16, 16, 3))).astype(
        np.uint8
    )
    splits = {f"{kind}_train": each for kind, each in (("x", pictures), ("y", labels))}
    splits |= {name.replace("train", "test"): each[:100] for name, each in splits.items()}
    np.savez(tmp_path / "pictures.npz", classes=np.array(["dark", "bright"]), **splits)
    Image.fromarray(pictures[0]).save(tmp_path / "sign.jpg")
    monkeypatch.chdir(tmp_path)
    library = (ROOT / "README.md").read_text().partition("## Library")[2].partition("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", library, re.DOTALL)
    assert len(examples) == 2
    for code in examples:
        exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"^none [\d.]+$", capsys.readouterr().out, re.MULTILINE)
