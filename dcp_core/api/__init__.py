"""A prediction API over HTTP that answers pictures with defended posteriors. It does not reveal victim or defense.

GET  /          how to send pictures, and the classes
POST /predict   the bytes of one picture, or of a zip archive of pictures
GET  /metrics   counters for Prometheus, for the owner
GET  /watch     what each client asks, for the owner
"""

import ipaddress
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import torch
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from dcp_core.answers import defend, predictions
from dcp_core.api.bodies import Bodies, unless_gone
from dcp_core.api.decoding import AT_ONCE, ZIP, Decoders
from dcp_core.api.guard import LOG, Guard
from dcp_core.api.keys import Key, KeyFileError, Keys
from dcp_core.api.metrics import Metrics
from dcp_core.api.turns import Turns
from dcp_core.api.watch import DELAY, Watch
from dcp_core.data.images import MAX_BYTES, mib
from dcp_core.data.structure import ImageError
from dcp_core.defenses import Defense
from dcp_core.files import explained
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.models.zoo import Victim

PART = 16  # pictures that the victim answers before another client's turn
SAVE_SECONDS = 5


def application(
    victim: Victim, defense: Defense, device: str = "cpu", *, keys: Keys | None = None, watch: Watch | None = None
) -> Starlette:
    """The API as an ASGI application.

    Pictures are decoded in processes of their own. Clients take turns, both there and at the victim, which answers a few
    pictures at a time, so that there are never more threads than cores. Randomised defenses use new random numbers for
    every request.

    Args:
        keys: who may ask; by default everybody. Without keys, a client is an address.
        watch: what is remembered of each client, and what an alarm leads to.

    Raises:
        VictimError: if the second network of the defense is missing.
    """
    return _Service(victim, arm(defense, victim.card.name, device), keys, watch or Watch()).application()


class _Service:
    """What the routes share."""

    def __init__(self, victim: Victim, defense: Defense, keys: Keys | None, watch: Watch) -> None:
        """Args: defense: with its second network, if it needs one."""
        self.victim, self.card, self.defense, self.keys, self.watch = victim, victim.card, defense, keys, watch
        processes = max(2, os.cpu_count() or 1)
        self.bodies, self.metrics = Bodies(), Metrics()
        self.decoders = Decoders(self.card.size)
        self.decoding = Turns(processes, of_one=processes - 1)  # one process is always free for another client
        self.answering = Turns(1)
        self.thread: CapacityLimiter | None = None

    def application(self) -> Starlette:
        routes = [
            Route("/", self.about),
            Route("/predict", self.ask, methods=["POST"]),
            Route("/metrics", self.show_metrics),
            Route("/watch", self.show_watch),
        ]
        return Starlette(
            routes=routes,
            lifespan=self.lifespan,
            middleware=[Middleware(Guard, metrics=self.metrics)],
            exception_handlers={HTTPException: _error, ImageError: _error},
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.decoders.prepare()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.keep_saving)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self.decoders.close()
                self.save()

    async def keep_saving(self) -> None:
        while True:
            await anyio.sleep(SAVE_SECONDS)
            self.save()

    def save(self) -> None:
        try:
            self.watch.save()
        except OSError as error:
            LOG.warning("the numbers of the page Watch are not saved: %s", explained(error))

    def caller(self, request: Request) -> tuple[str, Key | None]:
        """Who asks: the name of the key, or else the address.

        Raises:
            HTTPException: 401 without a valid key, if keys are required; 503 if the file of keys is damaged.
        """
        address = request.client.host if request.client else ""
        key = None
        if self.keys is not None:
            scheme, _, secret = request.headers.get("authorization", "").partition(" ")
            try:
                key = self.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
            except (KeyFileError, OSError) as error:
                LOG.error("%s", error)
                raise HTTPException(503, "The server cannot check keys at the moment: try again later.") from error
            if key is None:
                raise HTTPException(
                    401, "Send a valid key: `Authorization: Bearer KEY`.", {"WWW-Authenticate": "Bearer"}
                )
        request.scope["dcp.client"] = key.name if key else address
        return request.scope["dcp.client"], key

    def only_owner(self, request: Request) -> None:
        """Let pass only this machine, and operators.

        Raises:
            HTTPException: 401 or 403 for everybody else.
        """
        host = request.client.host if request.client else ""
        if _loopback(host) and "x-forwarded-for" not in request.headers:
            return
        if self.keys is None or not (key := self.caller(request)[1]) or not key.operator:
            raise HTTPException(403, "Only the owner of this server may read this.")

    async def show_metrics(self, request: Request) -> Response:
        self.only_owner(request)
        self.metrics.held.set(self.bodies.held.total())
        self.metrics.waiting.set(self.decoding.length + self.answering.length)
        self.metrics.clients(self.watch.rows())
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4")

    async def show_watch(self, request: Request) -> Response:
        self.only_owner(request)
        return JSONResponse({"clients": self.watch.rows()})

    async def about(self, request: Request) -> Response:
        return JSONResponse(
            {
                "classes": self.card.classes,
                "ask": "POST /predict with the bytes of a picture (JPEG, PNG, WebP, BMP, GIF, TIFF), or "
                f"of a zip of at most {AT_ONCE}; at most {mib(MAX_BYTES)}",
                "size": f"the centre square, resized to {self.card.size} x {self.card.size}",
            }
        )

    async def ask(self, request: Request) -> Response:
        name, key = self.caller(request)
        await self.mind_alarm(name)
        async with self.bodies.read(request, name) as body:
            self.metrics.received.inc(len(body))
            named = body.startswith(ZIP)
            names, pixels = await unless_gone(request, self.decode, name, body)
        self.charge(name, key, len(pixels))
        said = predictions(await self.answers(request, name, pixels), self.card.classes)
        return JSONResponse({"predictions": said} | ({"pictures": names} if named else {}))

    async def mind_alarm(self, name: str) -> None:
        """Do what the owner declared for clients that look like an attack.

        Raises:
            HTTPException: 403 if they are refused.
        """
        if not self.watch.client(name).alarm or self.watch.action == "tell":
            return
        if self.watch.action == "refuse":
            raise HTTPException(403, "Your questions look like an attack on this model. Write to its owner.")
        await anyio.sleep(DELAY)

    def charge(self, name: str, key: Key | None, count: int) -> None:
        """Count the pictures of today.

        Raises:
            HTTPException: 429 if the key's quota does not suffice for all of them; then none counts.
        """
        client = self.watch.client(name)
        if key is not None and client.today + count > key.quota:
            raise HTTPException(
                429,
                f"Your key has {max(0, key.quota - client.today)} of {key.quota} pictures left today, and these are "
                f"{count}. The count starts again at midnight UTC.",
            )
        client.today += count

    async def decode(self, client: str, body: bytes) -> tuple[list[str], Tensor]:
        async with self.decoding.turn(client):
            return await self.decoders.decode(body)

    async def answers(self, request: Request, client: str, pixels: Tensor) -> Tensor:
        """Defended posteriors (N, K) of pictures (N, 3, size, size)."""
        self.thread = self.thread or CapacityLimiter(1)
        seed = secrets.randbits(31)
        parts = []
        for number, part in enumerate(pixels.split(PART)):
            async with self.answering.turn(client):
                answers = await to_thread.run_sync(self.answer, client, part, seed + number, limiter=self.thread)
                parts.append(answers)
            if await request.is_disconnected():
                raise ClientDisconnect
        return torch.cat(parts)

    def answer(self, client: str, pixels: Tensor, seed: int) -> Tensor:
        """Defended posteriors of a few pictures; runs in the only thread that answers."""
        answers = defend(predict(self.victim.model, pixels), self.defense, seed, pixels)
        self.watch.see(client, pixels, answers.clean)
        return answers.defended


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _error(request: Request, error: Exception) -> Response:
    """Return errors as JSON, like all answers."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
