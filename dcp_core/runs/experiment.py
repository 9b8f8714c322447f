"""Experiments that can be reproduced: TOML files in `precomputed/plans`, each with one or two scales.

title = "Fig. 4, 5 and Table II: CIFAR-10 victim, CIFAR-100 as query pool"

[[train]]                         # options of the command of that name, which makes what the runs need;
data = "cifar10"                  # used only if the victim or second network does not exist yet
network = "resnet18"

[[auxiliary]]
victim = "cifar10-resnet18"
kind = "surrogate"
pool = "cifar100"

[[quantize]]
victim = "cifar10-resnet18"
method = "ptq"

[[cpu]]                           # a scale: one or more plans of runs, see `plans.py`
victims = ["cifar10-resnet20"]

[[full]]
victims = ["cifar10-resnet18"]
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dcp_core.data.datasets import DATASETS
from dcp_core.defenses.model_based import ModelBased
from dcp_core.files import PRECOMPUTED, write_atomic
from dcp_core.models import auxiliary, zoo
from dcp_core.results.schema import CONDITIONS
from dcp_core.runs import store
from dcp_core.runs.folder import EVENTS, RESULT, SAMPLE, SPEC, folder_of, result
from dcp_core.runs.plans import PlanError, expand
from dcp_core.runs.spec import RunSpec

PLANS = PRECOMPUTED / "plans"
SCALES = ("cpu", "full")
STEPS = ("train", "quantize", "auxiliary")  # in the order in which they depend on each other
SEEDS = 3  # fewer seeds than this mark a point as unreliable
FEWER = f", fewer than {SEEDS}"  # the end of the column `reason` of such a point


@dataclass(frozen=True)
class Step:
    """A command that makes something that runs need: its name ("train", "quantize", "auxiliary") and options."""

    command: str
    options: dict[str, Any]

    @property
    def victim(self) -> str:
        """The victim that the command makes, or for which it makes a second network."""
        if self.command == "train":
            return self.options.get("name") or f"{self.options['data']}-{self.options['network']}"
        suffix = f"-{self.options['method']}" if self.command == "quantize" else ""
        return f"{self.options['victim']}{suffix}"

    @property
    def done(self) -> bool:
        """Whether what the command makes already exists on this machine."""
        there = self.victim in zoo.names()
        if self.command == "auxiliary":
            return there and auxiliary.card(self.victim, self.options["kind"]) is not None
        return there


@dataclass(frozen=True)
class Experiment:
    """An experiment: its steps, and the runs of each scale, ordered by seed."""

    name: str
    title: str
    steps: tuple[Step, ...]
    scales: dict[str, list[RunSpec]]

    def missing(self, specs: list[RunSpec]) -> list[Step]:
        """The steps that must be done before these runs can start."""
        victims = {spec.victim for spec in specs}
        victims |= {
            step.options["victim"] for step in self.steps if step.victim in victims and "victim" in step.options
        }
        kinds = {(spec.victim, _kind(spec)) for spec in specs}
        return [
            step
            for step in self.steps
            if step.victim in victims
            and (step.command != "auxiliary" or (step.victim, step.options["kind"]) in kinds)
            and not step.done
        ]


def names() -> list[str]:
    """Names of the experiments that come with the repository."""
    return sorted(path.stem for path in PLANS.glob("*.toml"))


def read_experiment(name: str) -> Experiment:
    """Read an experiment of the repository by its name, or another one by the path of its TOML file.

    Raises:
        PlanError: for an unknown name, or a file that is not an experiment.
        ValueError: for a run with impossible parameters.
    """
    path = Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"
    if not path.exists():
        raise PlanError(
            f"unknown experiment '{name}'; known: {', '.join(names())}, or give the path of a .toml file"
        )
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not a readable TOML file: {error}") from error
    unknown = sorted(given.keys() - {"title", *STEPS, *SCALES})
    if unknown:
        raise PlanError(
            f"{path}: unknown entry '{unknown[0]}'; an experiment has title, {', '.join([*STEPS, *SCALES])}"
        )
    scales = {scale: _runs(given[scale]) for scale in SCALES if scale in given}
    if not scales:
        raise PlanError(f"{path} has no runs: add a [[cpu]] or a [[full]] table")
    steps = tuple(Step(command, dict(options)) for command in STEPS for options in given.get(command, []))
    for step in steps:
        _check(step)
    return Experiment(path.stem, str(given.get("title", path.stem)), steps, scales)


def datasets(specs: list[RunSpec], steps: list[Step]) -> list[str]:
    """Names of the data sets that the runs and steps need."""
    needed = {spec.pool for spec in specs} | {zoo.card(s.victim).dataset for s in specs if s.victim in zoo.names()}
    needed |= {step.options.get(key) for step in steps for key in ("data", "pool")}
    return sorted(name for name in needed if name in DATASETS)


def gathered(specs: list[RunSpec], known: pd.DataFrame) -> pd.DataFrame:
    """The result rows of these runs, in the same order; runs without a result are left out.

    A result of this machine comes before a row of `known` with the same key. Points with fewer than `SEEDS` seeds are
    marked as unreliable. A known row that is marked for another reason stays marked.

    Args:
        known: result rows as `load_results` gives them.
    """
    by_key = known.dropna(subset=["key"]).drop_duplicates("key", keep="last").set_index("key")
    rows = []
    for spec in specs:
        own = result(folder_of(spec))
        if own is not None:
            rows.append(own["rows"][0])
        elif spec.key in by_key.index:
            rows.append({"key": spec.key} | by_key.loc[spec.key].drop("id").dropna().to_dict())
    found = pd.DataFrame(rows)
    if found.empty:
        return found
    conditions = [name for name in CONDITIONS if name in found and name != "unreliable"]
    seeds = found.groupby(conditions, dropna=False)["seed"].transform("nunique")
    few = [f"{n} seed{'s' * (n > 1)}{FEWER}" if n < SEEDS else None for n in seeds]
    known_reasons = found["reason"] if "reason" in found else pd.Series(None, found.index, dtype=object)
    marked = known_reasons.notna() & ~known_reasons.astype("str").str.endswith(FEWER)
    reason = known_reasons.where(marked, few)
    return found.assign(unreliable=reason.notna(), reason=reason)


def keep_course(spec: RunSpec, into: Path) -> None:
    """Copy what pages show of a finished run (spec, result, sample, scored events; a few kilobytes) to `into / key`."""
    folder, target = folder_of(spec), into / spec.key
    course = store.events(folder).dropna(subset=["error"])
    lines = "".join(json.dumps(event) + "\n" for event in course.to_dict("records"))
    write_atomic(target / EVENTS, lambda file: file.write(lines.encode()))
    for name in (SAMPLE, RESULT, SPEC):
        if (folder / name).exists():
            content = (folder / name).read_bytes()
            write_atomic(target / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def _runs(blocks: Any) -> list[RunSpec]:
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise PlanError("write a scale as a table: [[cpu]] victims = [...]")
    specs = {spec.key: spec for block in blocks for spec in expand(block)}.values()
    return sorted(specs, key=lambda spec: spec.seed)


def _check(step: Step) -> None:
    needed = {"train": ("data", "network"), "quantize": ("victim", "method"), "auxiliary": ("victim", "kind")}
    for key in needed[step.command]:
        if key not in step.options:
            raise PlanError(f"a [[{step.command}]] table needs the entry '{key}'")


def _kind(spec: RunSpec) -> str | None:
    defense = spec.make_defense()
    return defense.needs if isinstance(defense, ModelBased) else None
