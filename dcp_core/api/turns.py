"""A fair queue: clients take turns, however many requests each of them sends."""

from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.exceptions import HTTPException

WAITING = 20  # largest number of requests of one client that wait at a time


class Turns:
    """A queue that lets a limited number of requests run at a time.

    The next request is one of the client with the fewest running requests. Clients with equally many take turns.
    """

    def __init__(self, at_once: int, of_one: int | None = None, waiting: int = WAITING) -> None:
        """Start with an empty queue.

        Args:
            at_once: largest number of requests that run at a time.
            of_one: how many of these may be of the same client. Default: all.
            waiting: largest number of waiting requests of one client; more are refused.
        """
        self.at_once, self.of_one, self.most_waiting = at_once, of_one or at_once, waiting
        self.running: Counter[str] = Counter()
        self.waiting: OrderedDict[str, deque[anyio.Event]] = OrderedDict()  # the next client first

    @property
    def length(self) -> int:
        """How many requests wait."""
        return sum(len(line) for line in self.waiting.values())

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. A request that is cancelled while it waits is forgotten.

        Raises:
            HTTPException: 429 if too many requests of this client wait already.
        """
        called = anyio.Event()
        line = self.waiting.setdefault(client, deque())
        if len(line) >= self.most_waiting:
            raise HTTPException(
                429, "Too many of your requests are waiting: send the next ones later.", {"Retry-After": "1"}
            )
        line.append(called)
        self._call()
        try:
            await called.wait()
            yield
        finally:
            if called.is_set():
                self.running[client] -= 1
                self.running += Counter()  # forget clients without requests
            else:
                line.remove(called)
                if not line:
                    self.waiting.pop(client, None)
            self._call()

    def _call(self) -> None:
        """Give free turns to those who wait."""
        while self.waiting and self.running.total() < self.at_once:
            client = min(self.waiting, key=lambda name: self.running[name])  # the first in line among equals
            if self.running[client] >= self.of_one:
                return
            line = self.waiting.pop(client)
            line.popleft().set()
            self.running[client] += 1
            if line:
                self.waiting[client] = line  # behind all others
