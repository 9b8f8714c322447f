"""Reads request bodies: not too large, not too slow, and not too many at a time. Notices when a client disconnects."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from dcp_core.data.images import MAX_BYTES, mib

SECONDS = 30  # time in which a whole body must arrive
AT_A_TIME = 256 * 2**20  # largest size in bytes of all bodies that are not decoded yet
OF_ONE = 64 * 2**20  # the same limit for one client
T = TypeVar("T")


class Bodies:
    """The request bodies that this server holds in memory."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()  # bytes by client

    @asynccontextmanager
    async def read(self, request: Request, client: str) -> AsyncIterator[bytes]:
        """The body of a request. Its bytes count as held until the end of the `with` block.

        Raises:
            HTTPException: 400 for no body, 408 if it does not arrive in time, 413 if it is too large, 503 if this client
                or all clients together have too many bytes here.
            ClientDisconnect: if the client disconnects.
        """
        chunks: list[bytes] = []
        held = 0
        try:
            try:
                with anyio.fail_after(SECONDS):
                    async for chunk in request.stream():
                        held += len(chunk)
                        self._hold(client, len(chunk))
                        if held > MAX_BYTES:
                            raise _closing(
                                413,
                                f"A request may have at most {mib(MAX_BYTES)}: send fewer or smaller pictures.",
                            )
                        chunks.append(chunk)
            except TimeoutError as error:
                raise _closing(408, f"The body did not arrive within {SECONDS:g} seconds.") from error
            body = b"".join(chunks)
            chunks.clear()
            if not body:
                raise HTTPException(400, "The request has no body: send the bytes of a picture.")
            yield body
        finally:
            self.held[client] -= held
            self.held += Counter()  # forget clients without bytes

    def _hold(self, client: str, size: int) -> None:
        self.held[client] += size
        if self.held[client] > OF_ONE or self.held.total() > AT_A_TIME:
            raise _closing(503, "Too many pictures are being sent: try again later.", {"Retry-After": "2"})


def _closing(status: int, message: str, headers: dict[str, str] | None = None) -> HTTPException:
    """A refusal after which the connection is closed, because the rest of the body was not read."""
    return HTTPException(status, message, {"Connection": "close", **(headers or {})})


async def unless_gone(request: Request, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """The result of `work(*arguments)`, which is cancelled as soon as the client disconnects.

    Raises:
        ClientDisconnect: if the client disconnected.
    """
    results: list[T] = []

    async def listen(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, tasks.cancel_scope)
        try:
            results.append(await work(*arguments))
        except Exception as error:  # raised below, not as a group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not results:
        raise ClientDisconnect
    return results[0]
