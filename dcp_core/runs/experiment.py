"""Experiments that anybody can repeat: plans in `precomputed/plans`, each at the scales its author gave it.

title = "Fig. 4, 5 and Table II: CIFAR-10 asked about CIFAR-100"

[[train]]                         # how to make what the runs need, as options of the command of that name;
data = "cifar10"                  # used only where a victim or a second network is missing
network = "resnet18"

[[auxiliary]]
victim = "cifar10-resnet18"
kind = "surrogate"
pool = "cifar100"

[[quantize]]
victim = "cifar10-resnet18"
method = "ptq"

[[cpu]]                           # a scale: one or more plans of `sweep`
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
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.sweep import PlanError, expand

PLANS = PRECOMPUTED / "plans"
SCALES = ("cpu", "full")
STEPS = ("train", "quantize", "auxiliary")  # in the order in which they depend on each other
SEEDS = 3  # that a point needs to be trusted
FEWER = f", fewer than {SEEDS}"  # end of the reason why a point of fewer seeds is not


@dataclass(frozen=True)
class Step:
    """Something to make before the runs: a command's name and its options."""

    command: str
    options: dict[str, Any]

    @property
    def victim(self) -> str:
        """The victim that it makes, or makes something for."""
        if self.command == "train":
            return self.options.get("name") or f"{self.options['data']}-{self.options['network']}"
        suffix = f"-{self.options['method']}" if self.command == "quantize" else ""
        return f"{self.options['victim']}{suffix}"

    @property
    def done(self) -> bool:
        """Whether it is there."""
        there = self.victim in zoo.names()
        if self.command == "auxiliary":
            return there and auxiliary.card(self.victim, self.options["kind"]) is not None
        return there


@dataclass(frozen=True)
class Experiment:
    """A plan with its scales: from each to its runs, all runs of a seed before those of the next."""

    name: str
    title: str
    steps: tuple[Step, ...]
    scales: dict[str, list[RunSpec]]

    def missing(self, specs: list[RunSpec]) -> list[Step]:
        """What must be made before these runs can be."""
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
    """The shipped experiments."""
    return sorted(path.stem for path in PLANS.glob("*.toml"))


def read_experiment(name: str) -> Experiment:
    """A shipped experiment by its name, or one of your own by its path.

    Raises:
        PlanError: for an unknown name or a file that is no experiment.
        ValueError: for runs that cannot be.
    """
    path = Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"
    if not path.exists():
        raise PlanError(f"there is no experiment '{name}'; there are {', '.join(names())}, or name a .toml file")
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not a readable TOML file: {error}") from error
    unknown = sorted(given.keys() - {"title", *STEPS, *SCALES})
    if unknown:
        raise PlanError(f"an experiment has no '{unknown[0]}'; it has title, {', '.join([*STEPS, *SCALES])}")
    scales = {scale: _runs(given[scale]) for scale in SCALES if scale in given}
    if not scales:
        raise PlanError(f"{path} has no runs: give it a [[cpu]] or a [[full]] table")
    steps = tuple(Step(command, dict(options)) for command in STEPS for options in given.get(command, []))
    for step in steps:
        _check(step)
    return Experiment(path.stem, str(given.get("title", path.stem)), steps, scales)


def datasets(specs: list[RunSpec], steps: list[Step]) -> list[str]:
    """The named data sets that runs and steps read."""
    needed = {spec.pool for spec in specs} | {zoo.card(s.victim).dataset for s in specs if s.victim in zoo.names()}
    needed |= {step.options.get(key) for step in steps for key in ("data", "pool")}
    return sorted(name for name in needed if name in DATASETS)


def gathered(specs: list[RunSpec], known: pd.DataFrame) -> pd.DataFrame:
    """The result rows of these runs, in their order: this machine's own, else the known ones (`load_results`).

    Points of fewer than `SEEDS` seeds are marked as not to be trusted alone; a known row that is marked for another
    reason stays marked.
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
    alike = [name for name in CONDITIONS if name in found and name != "unreliable"]
    seeds = found.groupby(alike, dropna=False)["seed"].transform("nunique")
    few = [f"{n} seed{'s' * (n > 1)}{FEWER}" if n < SEEDS else None for n in seeds]
    known_reasons = found["reason"] if "reason" in found else pd.Series(None, found.index, dtype=object)
    marked = known_reasons.notna() & ~known_reasons.astype("str").str.endswith(FEWER)
    reason = known_reasons.where(marked, few)
    return found.assign(unreliable=reason.notna(), reason=reason)


def keep_course(spec: RunSpec, into: Path) -> None:
    """Copy what a finished run shows, a few kilobytes, to a folder of runs: spec, result, sample, points of its curve."""
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
        raise PlanError("scales are written as tables: [[cpu]] victims = [...]")
    specs = {spec.key: spec for block in blocks for spec in expand(block)}.values()
    return sorted(specs, key=lambda spec: spec.seed)


def _check(step: Step) -> None:
    needed = {"train": ("data", "network"), "quantize": ("victim", "method"), "auxiliary": ("victim", "kind")}
    for key in needed[step.command]:
        if key not in step.options:
            raise PlanError(f"a [[{step.command}]] table has a {key}")


def _kind(spec: RunSpec) -> str | None:
    defense = spec.make_defense()
    return defense.needs if isinstance(defense, ModelBased) else None
