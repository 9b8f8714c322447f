"""The documentation says what the code does. `make docs` checks links and references."""

import re
from pathlib import Path

import pytest

import dcp_core
from dcp_core.attacks import ATTACKS
from dcp_core.cli import COMMANDS
from dcp_core.defenses import DEFENSES
from tools.docs import on_page_markdown

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def page(name: str) -> str:
    """A page's text, filled from the code."""
    return on_page_markdown((ROOT / "docs" / name).read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_mark_is_filled(path: Path) -> None:
    assert "<!-- fill" not in on_page_markdown(path.read_text())


def test_every_environment_variable_that_the_code_reads_is_explained() -> None:
    sources = [*(ROOT / "dcp_core").rglob("*.py"), *(ROOT / "pages").glob("*.py")]
    read = {name for path in sources for name in re.findall(r"\bDCP_[A-Z_]+\b", path.read_text())}
    explained = set(re.findall(r"^\| `(DCP_[A-Z_]+)`", page("environment.md"), re.MULTILINE))
    assert read == explained


@pytest.mark.parametrize(("name", "registry"), [("defenses.md", DEFENSES), ("attacks.md", ATTACKS)])
def test_every_method_is_described_with_all_its_parameters(name: str, registry: dict[str, type]) -> None:
    text = page(name)
    for kind in registry.values():
        section = text.split(f"### {kind.title}\n")[1].split("\n### ")[0]
        assert all(f"| `{parameter}` |" in section for parameter in kind.parameters())


def test_every_method_and_command_has_a_place() -> None:
    related = page("related-work.md")
    assert [name for name in {**DEFENSES, **ATTACKS} if name != "none" and f"`{name}`" not in related] == []
    assert all(f"Usage: dcp {name} " in page("command-line.md") for name in COMMANDS)


def test_the_readme_links_to_pages_that_exist() -> None:
    links = re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_the_citation_has_the_packages_version() -> None:
    assert f"\nversion: {dcp_core.__version__}\n" in (ROOT / "CITATION.cff").read_text()
