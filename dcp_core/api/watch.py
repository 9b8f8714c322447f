"""Watches the queries of each client: number of pictures, share of uncertain answers, and PRADA's statistic.

Answers are never changed. By default the owner is told, in the log, in /metrics and on the page Watch; on request, the
answers to clients with an alarm are delayed or refused.
"""

import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from dcp_core.evaluation.prada import DELTA, FEWEST, Prada
from dcp_core.files import home, read_object, write_atomic

LOG = logging.getLogger("dcp.api")
Action = Literal["tell", "delay", "refuse"]
TAU = 0.7
UNCERTAIN = 0.5  # share of answers below tau above which there is an alarm
DELAY = 5.0  # seconds by which a request is delayed
MOST_CLIENTS = 100  # of more clients, the one with the oldest last query is forgotten
SIDE = 32  # larger pictures are reduced before they are compared: 3 kB each


@dataclass
class Client:
    """The record of one client since the server's start; `today` (pictures) is also kept after a restart."""

    prada: Prada
    pictures: int = 0
    uncertain: int = 0  # answers whose largest clean posterior is below tau
    day: str = ""
    today: int = 0
    alarm: bool = False
    last: float = field(default_factory=time.time)


class Watching(Protocol):
    """Interface of a watch, which records the queries of clients: `Watch`, or one that several processes share."""

    action: Action

    async def alarm(self, name: str) -> bool:
        """Whether a client looks like an attack."""

    async def charge(self, name: str, count: int, quota: int | None) -> int | None:
        """Count pictures, and return None. If they exceed today's quota, count none, and return the number that is left."""

    def see(self, name: str, pixels: np.ndarray, clean: np.ndarray) -> None:
        """See `Watch.see`."""

    async def all(self) -> list[dict[str, Any]]:
        """A row for each client, the newest first."""

    def save(self) -> None:
        """Write the rows for the page Watch and for the next start.

        Raises:
            OSError: if they cannot be written.
        """


class Watch(Watching):
    """Records the queries of all clients in one process, and raises alarms."""

    def __init__(
        self,
        action: Action = "tell",
        delta: float = DELTA,
        tau: float = TAU,
        uncertain: float = UNCERTAIN,
        path: Path | None = None,
    ) -> None:
        """Start with the counts of today that an earlier server stored.

        Args:
            action: what follows from an alarm: "tell" writes a message, "delay" also delays each request by `DELAY`
                seconds, "refuse" also refuses requests.
            delta: PRADA's statistic W (0 to 1) below which there is an alarm.
            tau: answers whose top posterior (0 to 1) is below this count as uncertain.
            uncertain: share of uncertain answers (0 to 1) above which there is an alarm too, after `FEWEST` pictures.
            path: file of the counts. Default: `api/watch.json` in `home()`.
        """
        self.action, self.delta, self.tau, self.uncertain = action, delta, tau, uncertain
        self.path = path or home() / "api" / "watch.json"
        self.clients: OrderedDict[str, Client] = OrderedDict()
        for row in reversed(read_rows(self.path)):
            if row["day"] == self.client(row["client"]).day:
                self.client(row["client"]).today = row["today"]

    def client(self, name: str) -> Client:
        """The record of a client, which is made if there is none. It becomes the last, that is, the newest one."""
        found = self.clients.pop(name, None) or Client(Prada(self.delta))
        today = datetime.now(UTC).date().isoformat()
        if found.day != today:
            found.day, found.today = today, 0
        self.clients[name] = found
        while len(self.clients) > MOST_CLIENTS:
            self.clients.popitem(last=False)
        return found

    async def alarm(self, name: str) -> bool:
        """See `Watching`."""
        return self.client(name).alarm

    async def charge(self, name: str, count: int, quota: int | None) -> int | None:
        """See `Watching`."""
        client = self.client(name)
        if quota is not None and client.today + count > quota:
            return max(0, quota - client.today)
        client.today += count
        return None

    async def all(self) -> list[dict[str, Any]]:
        """See `Watching`."""
        return self.rows()

    def see(self, name: str, pixels: np.ndarray, clean: np.ndarray) -> None:
        """Record the pictures (N, 3, S, S) in [0, 1] that a client sent, and their clean posteriors (N, K)."""
        client = self.client(name)
        client.last = time.time()
        client.pictures += len(pixels)
        client.uncertain += int((clean.max(-1) < self.tau).sum())
        client.prada.see(small(pixels), clean.argmax(-1))
        share = client.uncertain / client.pictures
        alarm = client.prada.alarm or (client.pictures >= FEWEST and share > self.uncertain)
        if alarm != client.alarm:
            row = self._row(name, client)
            LOG.warning(
                "watch: client %r %s: %d pictures, PRADA W %.3f (alarm below %g), %.0f %% of answers below tau",
                name, "looks like an attack" if alarm else "no longer looks like an attack", client.pictures,
                row["prada_w"] or 1, self.delta, 100 * share,
            )  # fmt: skip
        client.alarm = alarm

    def rows(self) -> list[dict[str, Any]]:
        """A row for each client, the newest first."""
        return [self._row(name, client) for name, client in reversed(self.clients.items())]

    def _row(self, name: str, client: Client) -> dict[str, Any]:
        return {
            "client": name,
            "pictures": client.pictures,
            "day": client.day,
            "today": client.today,
            "uncertain_share": client.uncertain / max(1, client.pictures),
            "prada_w": client.prada.statistic,
            "alarm": client.alarm,
            "last": datetime.fromtimestamp(client.last, UTC).isoformat(timespec="seconds"),
        }

    def save(self) -> None:
        """See `Watching`."""
        text = json.dumps(
            {"version": 1, "action": self.action, "delta": self.delta, "tau": self.tau, "clients": self.rows()}
        )
        write_atomic(self.path, lambda file: file.write(text.encode()))


def small(pixels: np.ndarray) -> np.ndarray:
    """Pictures (N, 3, S, S) in [0, 1] as 8-bit pixels, reduced to `SIDE` by averages where they are larger."""
    pictures = (pixels * 255).round().astype(np.uint8)
    if pictures.shape[-1] <= SIDE:
        return pictures
    rows = (
        Image.fromarray(each.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.BOX) for each in pictures
    )
    return np.stack([np.asarray(row) for row in rows])


_COLUMNS: dict[str, tuple[type, ...]] = {
    "client": (str,), "pictures": (int,), "day": (str,), "today": (int,), "uncertain_share": (float, int),
    "prada_w": (float, int, type(None)), "alarm": (bool,), "last": (str,),
}  # fmt: skip


def read_rows(path: Path | None = None) -> list[dict[str, Any]]:
    """The rows that a server wrote last, without damaged ones; empty if there are none or the file is damaged."""
    try:
        rows = read_object(path or home() / "api" / "watch.json", 16 * 2**20)["clients"]
        return [row for row in rows if all(isinstance(row.get(name), kinds) for name, kinds in _COLUMNS.items())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
