"""Rules on which package may import which."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (  # packages and files of dcp_core, from the bottom; none imports what comes after it
    "files",
    "checkpoints",
    "release",
    "precision",
    "provenance",
    "vision",
    "data",
    "defenses",
    "models",
    "evaluation",
    "making",
    "given",
    "attacks",
    "results",
    "costs",
    "plots",
    "answers",
    "interop",
    "plugins",
    "api",
    "runs",
    "ui",
    "cli",
)
ONLY = {"defenses": set(), "plots": {"defenses", "results"}}  # all that these import of the floors below


def _modules() -> dict[str, Path]:
    """Every file of dcp_core by its name in Python."""
    files = sorted((ROOT / "dcp_core").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files
    }


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = names & MODULES.keys()
            found |= modules if modules == names else modules | {node.module}
    return found


def _floor(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_file_has_its_floor() -> None:
    assert {_floor(module) for module in MODULES} - {"", "__main__"} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    imports, floor = _imports(MODULES[module]), _floor(module)
    if floor != "ui":
        assert not any(name.split(".")[0] == "streamlit" for name in imports)
    if floor not in FLOORS:
        return
    below = ONLY.get(floor, set(FLOORS[: FLOORS.index(floor)]))
    assert {_floor(name) for name in imports & MODULES.keys()} <= below | {floor}
    if floor == "plots":
        assert not any(name.split(".")[0] == "torch" for name in imports)


def test_no_two_files_import_each_other_not_even_by_way_of_others() -> None:
    TopologicalSorter(
        {name: _imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    ).prepare()  # raises CycleError, which names the files


def test_the_map_in_contributing_names_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = [path.parent.name for path in (ROOT / "dcp_core").glob("*/__init__.py")]
    assert [name for name in packages if f"\n  {name}/ " not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "pages").glob("*.py")), ids=str)
def test_a_page_is_complete_alone(path: Path) -> None:
    statements = [
        node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    first = statements[1]  # after the docstring
    assert ast.unparse(first).startswith("ui.frame(")
