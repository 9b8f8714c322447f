"""Limits of connections that uvicorn does not have: how many there are, and how long they may be silent or slow."""

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dcp_core.api.guard import SECONDS

# Seconds in which the head of a request must arrive, and after which a connection without requests is closed.
HEAD_SECONDS = 10.0
GRACE = 5.0  # seconds after a request's own deadline until its connection is closed
CONNECTIONS = 500


def protocol(connections: int = CONNECTIONS, head_seconds: float = HEAD_SECONDS) -> type[H11Protocol]:
    """The protocol for `uvicorn.Config(http=...)`.

    Args:
        connections: largest number of connections at a time; one address may hold half of them.
        head_seconds: see `HEAD_SECONDS`.
    """
    held: Counter[str] = Counter()

    class Limited(H11Protocol):
        """HTTP/1.1 with a deadline for each phase of a connection."""

        deadline: asyncio.TimerHandle | None = None
        address: str | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            if held.total() >= connections or held[address] >= max(1, connections // 2):
                transport.abort()
                return
            self.address = address
            held[address] += 1
            self._expect(head_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            if self.address is not None:
                held[self.address] -= 1
                held.__iadd__(Counter())  # forget addresses without connections
                self.address = None
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._expect_more()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._expect_more()

        def _expect_more(self) -> None:
            """The deadline of what comes next: an answer, or the head of a request."""
            busy = self.cycle is not None and not self.cycle.response_complete
            self._expect(SECONDS + GRACE if busy else head_seconds)

        def _expect(self, seconds: float) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            self.deadline = self.loop.call_later(seconds, self.transport.abort)

    return Limited
