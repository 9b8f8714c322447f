"""A prediction API over HTTP that answers pictures with defended posteriors. It does not reveal victim or defense.

GET  /          how to send pictures, and the classes
POST /predict   the bytes of one picture, or of a zip archive of pictures
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from dcp_core.answers import defend, predictions
from dcp_core.api.bodies import Bodies, unless_gone
from dcp_core.api.decoding import AT_ONCE, ZIP, Decoders
from dcp_core.api.turns import Turns
from dcp_core.data.images import MAX_BYTES, mib
from dcp_core.data.structure import ImageError
from dcp_core.defenses import Defense
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.models.zoo import Victim

PART = 16  # pictures that the victim answers before another client's turn


def application(victim: Victim, defense: Defense, device: str = "cpu") -> Starlette:
    """The API as an ASGI application.

    Pictures are decoded in processes of their own. Clients take turns, both there and at the victim, which answers a few
    pictures at a time, so that there are never more threads than cores. Randomised defenses use new random numbers for
    every request.

    Raises:
        VictimError: if the second network of the defense is missing.
    """
    return _Service(victim, arm(defense, victim.card.name, device)).application()


class _Service:
    """What the routes share."""

    def __init__(self, victim: Victim, defense: Defense) -> None:
        """Args: defense: with its second network, if it needs one."""
        self.victim, self.card, self.defense = victim, victim.card, defense
        processes = max(2, os.cpu_count() or 1)
        self.bodies = Bodies()
        self.decoders = Decoders(self.card.size)
        self.decoding = Turns(processes, of_one=processes - 1)  # one process is always free for another client
        self.answering = Turns(1)
        self.thread: CapacityLimiter | None = None

    def application(self) -> Starlette:
        routes = [Route("/", self.about), Route("/predict", self.ask, methods=["POST"])]
        return Starlette(
            routes=routes, lifespan=self.lifespan, exception_handlers={HTTPException: _error, ImageError: _error}
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.decoders.prepare()
        try:
            yield
        finally:
            self.decoders.close()

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
        client = request.client.host if request.client else ""
        async with self.bodies.read(request, client) as body:
            named = body.startswith(ZIP)
            names, pixels = await unless_gone(request, self.decode, client, body)
        said = predictions(await self.answers(request, client, pixels), self.card.classes)
        return JSONResponse({"predictions": said} | ({"pictures": names} if named else {}))

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
                parts.append(await to_thread.run_sync(self._answer, part, seed + number, limiter=self.thread))
            if await request.is_disconnected():
                raise ClientDisconnect
        return torch.cat(parts)

    def _answer(self, pixels: Tensor, seed: int) -> Tensor:
        return defend(predict(self.victim.model, pixels), self.defense, seed, pixels).defended


async def _error(request: Request, error: Exception) -> Response:
    """Return errors as JSON, like all answers."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
