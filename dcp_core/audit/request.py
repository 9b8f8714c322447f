"""The request for an audit (victim, the thief's pictures, the owner's limits), and the folder of an audit."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dcp_core.data.datasets import DATASETS, available, load, pictures, pools_for, thief_knowledge
from dcp_core.defenses import DEFENSES
from dcp_core.files import home
from dcp_core.models import zoo
from dcp_core.models.architectures import CLONES
from dcp_core.models.pretrained import FROZEN
from dcp_core.results.decision import Needs
from dcp_core.runs.spec import LEAST_SIDE, MOST_SIDE

CLONE, CLONE_SIZE = "fast_32_64_64", 32  # fast enough for two cores; twice the side takes four times as long
DEFENSES_TRIED = ("dcp", "mgs", "rs", "mgw")  # in the order in which they are tried
MOST_HOURS = 1000.0
FEWEST_PICTURES = 40  # smallest query pool: the three budgets must differ
FOREIGN = (
    "voc",
    "cub200",
    "cifar100",
    "cifar10",
    "textures",
)  # pools for a victim whose training pictures are unknown


class AuditError(ValueError):
    """An audit that is not possible. The message says what to do."""


@dataclass(frozen=True)
class Request:
    """The request for an audit. `Request.of` chooses the query pools.

    Args:
        victim: name of the victim. It needs a card and stored test answers.
        pool: query pool of the main thief; where there is one, with pictures of the same kind as the victim's.
        other: a second query pool, with pictures of another kind; None without one.
        needs: the owner's limits.
        price: price of 1,000 queries, in any currency; None if it is unknown.
        seeds: number of seeds, at least 1. Intervals need two, conclusions three.
        defenses: short names of the defenses that are tried, in this order.
        clone: network of the thief.
        clone_size: side in pixels of the pictures that this network sees, at most the victim's.
    """

    victim: str
    pool: str
    other: str | None = None
    needs: Needs = field(default_factory=lambda: Needs(increase=1.0, l1=0.9))
    price: float | None = None
    seeds: int = 3
    defenses: tuple[str, ...] = DEFENSES_TRIED
    clone: str = CLONE
    clone_size: int = CLONE_SIZE

    def __post_init__(self) -> None:
        if self.price is not None and not self.price >= 0:
            raise AuditError(f"the price of 1,000 queries must be a number from 0, not {self.price}")
        if self.seeds < 1:
            raise AuditError(f"the number of seeds must be at least 1, not {self.seeds}")
        for name in self.defenses:
            if name not in DEFENSES or name == "none":
                raise AuditError(
                    f"unknown defense '{name}'; known: {', '.join(each for each in DEFENSES if each != 'none')}"
                )
        if self.clone not in CLONES or self.clone == FROZEN:
            fitting = ", ".join(name for name in CLONES if name != FROZEN)
            raise AuditError(f"unknown architecture '{self.clone}' of the clone; known: {fitting}")
        if not LEAST_SIDE <= self.clone_size <= MOST_SIDE:
            raise AuditError(
                f"the clone's network can see pictures of {LEAST_SIDE} to {MOST_SIDE} pixels, not {self.clone_size}"
            )

    @classmethod
    def of(cls, victim: str, pools: tuple[str, ...] = (), **more: object) -> "Request":
        """A request for a victim on this machine.

        Args:
            pools: one or two query pools, by name or path; by default those on this machine that fit the victim.
            more: the other fields of `Request`. By default, the price is that with which a service was added.

        Raises:
            AuditError: if no pool fits, or for an impossible value.
            ValueError: for a victim that is unknown or has no stored test answers.
        """
        if victim.startswith(zoo.TORCHVISION):
            raise AuditError(
                f"{victim} has no labelled test pictures, which an audit needs. Add its weights together with pictures: "
                f"python -m dcp_core victims add NAME weights.safetensors --network {victim} --data FOLDER"
            )
        card = zoo.card(victim)
        zoo.test_answers(victim)
        if more.get("price") is None:  # a service may have been added with its price
            more["price"] = card.recipe.get("price_per_1000") or None
        given = tuple(dict.fromkeys(pools or _pools_here(card)))
        if len(given) > 2:
            raise AuditError(f"an audit takes at most two query pools, not {len(given)}: give one or two")
        return cls(victim, given[0], given[1] if len(given) > 1 else None, **more)  # type: ignore[arg-type]

    @property
    def same_kind(self) -> bool:
        """Whether the main pool has pictures of the kind on which the victim was trained, as far as is known."""
        return thief_knowledge(self.card.dataset, self.pool) == "knowledgeable"

    @property
    def card(self) -> zoo.Card:
        """The victim's card."""
        return zoo.card(self.victim)

    @property
    def words(self) -> list[str]:
        """The words of the command `audit` for this request, without the time."""
        words = [self.victim, "--pool", self.pool, *(["--pool", self.other] if self.other else [])]
        words += ["--price-per-1000", f"{self.price:g}"] if self.price is not None else []
        words += [
            "--increase",
            f"{self.needs.increase:g}",
            "--l1",
            f"{self.needs.l1:g}",
            "--l1-of",
            self.needs.l1_of,
        ]
        words += ["--one-file"] if self.needs.one_file else []
        words += [
            each for name in self.defenses if self.defenses != DEFENSES_TRIED for each in ("--defense", name)
        ]
        words += ["--clone-size", str(self.clone_size)] if self.clone_size != CLONE_SIZE else []
        return [*words, "--seeds", str(self.seeds), "--clone", self.clone]

    @property
    def command(self) -> str:
        """The command line of this audit, for an hour."""
        return f"python -m dcp_core audit {shlex.join(self.words)} --hours 1"

    @property
    def folder(self) -> Path:
        """The folder of the victim's audit: its lock, its status, and the latest report."""
        return folder_of(self.victim)

    def check_pools(self) -> None:
        """Check that the pools can be read and have pictures enough. Pictures of another size than the victim's are resized.

        Raises:
            AuditError: if not.
            ValueError: for a pool that cannot be read.
        """
        for name in filter(None, (self.pool, self.other)):
            if name in DATASETS and DATASETS[name].drawn:  # drawing it only for this check would take a minute
                count = pictures(name, "train")
            else:
                images = load(name, "train", size=self.card.size).images
                count, high, wide = len(images), *images.shape[2:]
                if high != wide:
                    raise AuditError(
                        f"the pictures of the pool {name} are {wide} x {high} pixels, but must be square: give a folder of "
                        "pictures, of which the centre square is taken"
                    )
            if count < FEWEST_PICTURES:
                raise AuditError(
                    f"the pool {name} has {count} pictures, an audit needs {FEWEST_PICTURES}: choose a larger pool"
                )


def folder_of(victim: str) -> Path:
    """The folder of a victim's audit, whether or not it exists."""
    return home() / "audits" / victim


def _pools_here(card: zoo.Card) -> tuple[str, ...]:
    """The query pools on this machine for a victim: of the same kind, if it is known, then one of another kind."""
    related = [
        name
        for name in pools_for(card.dataset, card.size, "knowledgeable")
        if available(name) and thief_knowledge(card.dataset, name) == "knowledgeable"
    ]
    related.sort(key=lambda name: -pictures(name, "train", card.size))
    others = [name for name in pools_for(card.dataset, card.size, "limited") if available(name)]
    if card.dataset not in DATASETS:
        others = [name for name in FOREIGN if name in others]
    if not related and not others:
        raise AuditError(
            f"no query pool on this machine has pictures of {card.size} x {card.size} pixels or less: name one with --pool, "
            "a data set, an .npz file or a folder of pictures"
        )
    return (*related[:1], *others[:1])
