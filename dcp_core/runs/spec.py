"""The spec of a run, an attack or a measurement of costs: all parameters that determine its result, as JSON."""

import dataclasses
import hashlib
import json
import shlex
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dcp_core.attacks import Attack, make_attack
from dcp_core.costs.latency import CLOCKS
from dcp_core.defenses import Defense, make_defense
from dcp_core.defenses.base import ALWAYS_THERE, identity
from dcp_core.models.architectures import CLONES
from dcp_core.models.pretrained import FROZEN, SIDE

MOST_SEED = 2**32 - 1
MOST_QUERIES = 10**12
MOST_SECONDS = 10**6
LEAST_SIDE, USUAL_SIDE, MOST_SIDE = 16, 64, 1024  # pixels of the pictures that a clone sees
MOST_TEXT = 1000  # characters of a victim's name or a pool's path


class SpecError(ValueError):
    """A run with impossible parameters. The message says which, and what is possible."""


@dataclass(frozen=True)
class RunSpec:
    """One attack on one defended victim. Parameters that were not given are filled in with their defaults.

    Args:
        victim: name of the victim, see `models/zoo.py`.
        attack, defense: their short names.
        budget: number of queries that the victim answers.
        pool: data set whose training pictures are the query pool, for attacks that need one.
        clone: architecture of the thief's network; without it, the attack's usual one.
        clone_size: side in pixels of the pictures that the thief's network sees; 0 for the victim's, at most `USUAL_SIDE`.
            The victim still sees its own size.
        seed: seed of all random numbers of the thief and of the defense.

    Raises:
        ValueError: for an unknown attack, defense, architecture or parameter, a value of another type or out of range,
            a pool that is missing or not needed.
    """

    victim: str
    attack: str = "knockoff"
    attack_parameters: dict[str, Any] = field(default_factory=dict)
    defense: str = "none"
    defense_parameters: dict[str, Any] = field(default_factory=dict)
    budget: int = 10_000
    pool: str | None = None
    clone: str = ""
    seed: int = 0
    clone_size: int = 0

    kind: ClassVar[str] = "attack"

    def __post_init__(self) -> None:
        _check_text("victim", self.victim)
        if self.pool is not None:
            _check_text("pool", self.pool)
        if self.clone != "":
            _check_text("clone", self.clone)
        _check_whole("query budget", self.budget, 1, MOST_QUERIES)
        _check_whole("seed", self.seed, 0, MOST_SEED)
        _check_whole("clone's size", self.clone_size, 0, MOST_SIDE)
        if 0 < self.clone_size < LEAST_SIDE:
            raise SpecError(f"the clone's size must be at least {LEAST_SIDE} pixels, or 0 for the usual one")
        if self.clone_size and self.clone == FROZEN:
            raise SpecError(f"{FROZEN} always sees {SIDE} pixels: leave out the clone's size")
        attack = make_attack(self.attack, **self.attack_parameters)
        object.__setattr__(self, "clone", self.clone or attack.usual_clone)
        attack = attack.for_clone(self.clone)
        object.__setattr__(self, "attack_parameters", dataclasses.asdict(attack))
        defense = make_defense(self.defense, **self.defense_parameters)
        object.__setattr__(self, "defense_parameters", defense.values())
        if self.clone not in CLONES:
            raise SpecError(f"unknown architecture '{self.clone}'; known: {', '.join(CLONES)}")
        if self.clone == FROZEN and not attack.needs_pool:
            raise SpecError(f"{FROZEN} learns from a query pool, which {attack.title} does not take")
        if attack.needs_pool and self.pool is None:
            raise SpecError(f"{attack.title} needs a query pool, for example signs_pool or textures")
        if not attack.needs_pool and self.pool is not None:
            raise SpecError(f"{attack.title} generates its own pictures: it takes no query pool")

    def make_attack(self) -> Attack:
        """The attack with its parameters."""
        return make_attack(self.attack, **self.attack_parameters)

    def make_defense(self) -> Defense:
        """The defense with its parameters."""
        return make_defense(self.defense, **self.defense_parameters)

    def to_json(self) -> str:
        """Readable JSON; `spec_from` gives the same spec."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Read the spec of an attack from JSON.

        A parameter that did not exist when the spec was written gets the value that it had in effect then.

        Raises:
            ValueError: for text that is not a spec.
        """
        return cls.from_object(json.loads(text))

    @classmethod
    def from_object(cls, given: dict[str, Any]) -> "RunSpec":
        """The spec of an attack from the object in its JSON; entries that this version does not know are ignored.

        Raises:
            ValueError: for anything else.
        """
        try:
            made = make_attack(given.get("attack", cls.attack), **given.get("attack_parameters", {}))
            earlier = {
                name: each.before for name, each in made.parameters().items() if each.before is not ALWAYS_THERE
            }
            known = _known(cls, given)
            return cls(**known | {"attack_parameters": earlier | given.get("attack_parameters", {})})
        except (TypeError, AttributeError) as error:
            raise SpecError(f"this is not the spec of an attack: {error}") from error

    def sides(self, victim: int, pool: int | None) -> tuple[int, int]:
        """Sides in pixels of the pictures that the thief sends, and of those that the clone sees.

        Args:
            victim, pool: sides of the victim's pictures, and of the pool's; None without a pool, where the thief makes
                pictures of the clone's size.
        """
        clone = self.clone_size or min(victim, USUAL_SIDE)
        return (clone, clone) if pool is None else (pool, min(clone, pool))

    @property
    def key(self) -> str:
        """Hash of all parameters, 12 hexadecimal digits: equal for equal runs, also after a default has changed."""
        parameters = {
            "attack_parameters": identity(self.make_attack()),
            "defense_parameters": identity(self.make_defense()),
        }
        described = dataclasses.asdict(self) | parameters
        if not self.clone_size:
            del described["clone_size"]  # added later: runs without it keep their keys
        canonical = json.dumps(described, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def command(self) -> str:
        """The command line that makes this run."""
        words = ["--victim", self.victim, "--attack", self.attack, "--budget", str(self.budget)]
        words += ["--pool", self.pool] if self.pool else []
        words += ["--clone-size", str(self.clone_size)] if self.clone_size else []
        words += ["--clone", self.clone, "--defense", self.defense, "--seed", str(self.seed)]
        return "python -m dcp_core attack " + shlex.join(
            words + options_of(self.make_attack()) + options_of(self.make_defense())
        )


@dataclass(frozen=True)
class BenchSpec:
    """One measurement of the costs of every defense for a victim (Table III).

    Args:
        seconds: time limit of each of the four timing sessions, see `costs.measure`.
        clock: "wall" or "processor", see `costs.latency.CLOCKS`.
        seed: seed of the random order in which defenses are timed. Another seed makes another measurement.

    Raises:
        SpecError: for a time limit that is not above 0, an unknown clock, or a value of another type.
    """

    victim: str
    seconds: float = 60.0
    clock: str = "wall"
    seed: int = 0

    kind: ClassVar[str] = "bench"

    def __post_init__(self) -> None:
        _check_text("victim", self.victim)
        _check_whole("seed", self.seed, 0, MOST_SEED)
        if not isinstance(self.seconds, int | float) or not 0 < self.seconds <= MOST_SECONDS:
            raise SpecError(
                f"the time limit must be above 0 and at most {MOST_SECONDS:,} seconds, not {self.seconds!r:.60}"
            )
        if not isinstance(self.clock, str) or self.clock not in CLOCKS:
            raise SpecError(f"unknown clock '{self.clock}'; known: {', '.join(CLOCKS)}")
        object.__setattr__(self, "seconds", float(self.seconds))  # 60 and 60.0 give the same key

    def to_json(self) -> str:
        """Readable JSON; `spec_from` gives the same spec."""
        return json.dumps({"kind": self.kind} | dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @property
    def key(self) -> str:
        """Hash of all parameters, 12 hexadecimal digits: equal for equal measurements."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def command(self) -> str:
        """The command line that makes this measurement."""
        words = ["--victim", self.victim, "--seconds", f"{self.seconds:g}", "--seed", str(self.seed)]
        words += ["--clock", self.clock] if self.clock != "wall" else []
        return "python -m dcp_core bench " + shlex.join(words)


Spec = RunSpec | BenchSpec


def options_of(made: Attack | Defense) -> list[str]:
    """Command-line options of an attack or a defense, for the parameters that differ from their defaults."""
    words: list[str] = []
    for each in dataclasses.fields(made):
        value, flag = getattr(made, each.name), each.name.replace("_", "-")
        if (
            not each.compare or value == each.default
        ):  # fields that are not compared, such as the second network, are no options
            continue
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def defense_command(action: str, victim: str, defense: Defense) -> str:
    """The command line that serves or exports a defended victim (`action` is "serve" or "export")."""
    words = ["--victim", victim, "--defense", defense.name, *options_of(defense)]
    return f"python -m dcp_core {action} {shlex.join(words)}"


def spec_from(given: dict[str, Any]) -> Spec:
    """The spec of an attack or of a measurement from the object in its JSON; entries that this version does not know
    are ignored.

    Raises:
        ValueError: for an object that is not a spec.
    """
    if given.get("kind", RunSpec.kind) != BenchSpec.kind:
        return RunSpec.from_object(given)
    try:
        return BenchSpec(**_known(BenchSpec, given))
    except TypeError as error:
        raise SpecError(f"this is not the spec of a measurement: {error}") from error


def _known(kind: type[Spec], given: dict[str, Any]) -> dict[str, Any]:
    """The entries that are fields of this kind of spec."""
    return {each.name: given[each.name] for each in dataclasses.fields(kind) if each.name in given}


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MOST_TEXT:
        raise SpecError(f"the {name} must be printable text of 1 to {MOST_TEXT:,} characters, not {value!r:.60}")


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SpecError(f"the {name} must be a whole number from {low} to {high:,}, not {value!r:.60}")
