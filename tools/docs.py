"""A hook of MkDocs that replaces `<!-- fill: NAME -->` in the pages by text from the code.

Parameters, commands and columns are documented in the code, and the documentation copies them from there.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import dcp_core
from dcp_core.attacks import ATTACKS, Attack
from dcp_core.audit.report import PAGE
from dcp_core.cli import COMMANDS, module_of
from dcp_core.data.datasets import DATASETS
from dcp_core.defenses import DEFENSES, Defense
from dcp_core.files import PRECOMPUTED
from dcp_core.results.schema import COLUMNS

MARK = re.compile(r"<!-- fill: (\w+)(?: (\w+))? -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page. MkDocs calls this for every page before rendering."""
    return MARK.sub(lambda mark: FILLS[mark[1]](*filter(None, [mark[2]])), markdown)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the sample report of an audit. MkDocs calls this once."""
    from mkdocs.structure.files import File  # only where the site is built

    files.append(File.generated(config, "audit-sample.html", abs_src_path=str(PRECOMPUTED / "audit" / PAGE)))
    return files


def methods(registry: Mapping[str, type[Attack]] | Mapping[str, type[Defense]]) -> str:
    """A section for each defense or attack, with its description, source and parameters."""
    return "\n".join(_method(name, kind) for name, kind in registry.items())


def _method(name: str, kind: type[Attack] | type[Defense]) -> str:
    text = [f"### {kind.title}", "", f"`{name}`. Source: {kind.source}.", "", *_first_paragraph(kind), ""]
    if declared := kind.parameters():
        text += ["| parameter | symbol | default | allowed | meaning |", "|---|---|---|---|---|"]
    for key, each in declared.items():
        default = getattr(kind, key)
        allowed = ", ".join(map(str, each.choices)) or f"{each.low:g} to {each.high:g}"
        shown = each.optional if default is None else default
        text.append(f"| `{key}` | {each.symbol} | {shown} | {allowed} | {_cell(each.help)} |")
    return "\n".join([*text, ""])


def _first_paragraph(kind: type) -> list[str]:
    return (inspect.getdoc(kind) or "").split("\n\n")[0].splitlines()


def commands() -> str:
    """The help of each command, as the command line prints it."""
    parts = []
    for name, summary in COMMANDS.items():
        parts += [f"## {name}", "", summary, ""]
        parts += _help(import_module(module_of(name)).command, f"dcp {name}")
    return "\n".join(parts)


def _help(command: click.Command, path: str) -> list[str]:
    context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
    lines = ["```text", command.get_help(context), "```", ""]
    for name, each in getattr(command, "commands", {}).items():
        lines += _help(each, f"{path} {name}")
    return lines


def columns() -> str:
    """A table of the columns of result rows."""
    rows = [f"| `{each.name}` | {_cell(each.meaning)} | {_cell(each.expected)} |" for each in COLUMNS.values()]
    return "\n".join(["| column | meaning | a cell is |", "|---|---|---|", *rows])


def datasets() -> str:
    """A table of the data sets that have a name."""
    rows = [
        f"| `{name}` | {each.title} | {each.classes or 'none: a query pool'} | {each.size} | "
        f"{'drawn on first use' if each.drawn else '`dcp data download ' + name + '`'} |"
        for name, each in DATASETS.items()
    ]
    return "\n".join(
        ["| name | data set | classes | pixels a side | how it gets here |", "|---|---|---|---|---|", *rows]
    )


def public() -> str:
    """A table of the public names of the package, with the comments beside them in `dcp_core/__init__.py`."""
    named = re.findall(r'^    "(\w+)",  # (.+)$', Path(dcp_core.__file__).read_text(), re.MULTILINE)
    return "\n".join(
        ["| name | what it is |", "|---|---|", *(f"| `{name}` | {_cell(line)} |" for name, line in named)]
    )


def have(name: str) -> str:
    """Whether this version has a defense or an attack."""
    return f"yes: `{name}`" if name in DEFENSES or name in ATTACKS else "no"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


FILLS: dict[str, Callable[..., str]] = {
    "defenses": lambda: methods(DEFENSES),
    "attacks": lambda: methods(ATTACKS),
    "commands": commands,
    "columns": columns,
    "datasets": datasets,
    "public": public,
    "have": have,
}
