"""The floors of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {  # package -> what it must never import, directly
    "models": ("attacks", "evaluation", "runs", "plots", "results", "ui", "cli", "answers"),
    "data": ("attacks", "evaluation", "runs", "plots", "results", "ui", "cli", "answers", "models", "defenses"),
    "defenses": ("attacks", "evaluation", "runs", "plots", "results", "ui", "cli", "answers", "data"),
    "evaluation": ("attacks", "runs", "plots", "ui", "cli"),
    "attacks": ("runs", "plots", "results", "ui", "cli"),
    "making": ("attacks", "runs", "plots", "results", "ui", "cli"),
    "plots": ("ui", "cli", "runs", "attacks", "models", "data", "defenses", "evaluation"),
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "dcp_core").rglob("*.py")), ids=str)
def test_imports_run_downwards(path: Path) -> None:
    imports = _imports(path)
    if path.name != "ui.py":
        assert not any(name.split(".")[0] == "streamlit" for name in imports)
    floor = path.relative_to(ROOT / "dcp_core").parts[0]
    for above in FLOORS.get(floor, ()):
        assert not any(name == f"dcp_core.{above}" or name.startswith(f"dcp_core.{above}.") for name in imports), (
            above
        )
    if floor == "plots":
        assert not any(name.split(".")[0] == "torch" for name in imports)


@pytest.mark.parametrize("path", sorted((ROOT / "pages").glob("*.py")), ids=str)
def test_a_page_is_complete_alone(path: Path) -> None:
    statements = [
        node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    first = statements[1]  # after the docstring
    assert ast.unparse(first).startswith("ui.frame(")
