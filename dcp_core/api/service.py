"""The routes of the prediction API, and what each request goes through."""

import ipaddress
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dcp_core.api import description, hugging_face, v2
from dcp_core.api.bodies import Bodies, unless_gone
from dcp_core.api.decoding import Decoders
from dcp_core.api.engines import Engine
from dcp_core.api.guard import LOG, Guard
from dcp_core.api.keys import Key, KeyFileError, Keys
from dcp_core.api.metrics import Metrics
from dcp_core.api.pictures import AT_ONCE, predictions
from dcp_core.api.turns import Turns
from dcp_core.api.watch import DELAY, Watch, Watching
from dcp_core.data.images import MAX_BYTES, mib
from dcp_core.data.structure import ImageError
from dcp_core.files import explained

PART = 16  # number of pictures that the victim answers before another client's turn
SAVE_SECONDS = 5


class Service:
    """The state that all routes share, and the routes."""

    def __init__(
        self, engine: Engine, keys: Keys | None, watch: Watching | None, *, one_of_many: bool = False
    ) -> None:
        """Set up the queues and the processes for an engine.

        Args:
            engine: the defended classifier.
            keys: API keys of the clients; None if everybody may send requests.
            watch: records the queries of clients; None for a new `Watch`.
            one_of_many: whether this is a replica behind another server. Addresses of clients are then unknown.
        """
        self.one_of_many = one_of_many
        self.engine, self.keys, self.watch = engine, keys, watch or Watch()
        processes = max(2, os.cpu_count() or 1)
        self.bodies, self.metrics = Bodies(), Metrics()
        self.decoders = Decoders(engine.size)
        self.decoding = Turns(processes, of_one=processes - 1)  # one process is always free for another client
        self.answering = Turns(1)
        self.thread: CapacityLimiter | None = None

    def application(self) -> Starlette:
        """The API as an ASGI application."""
        model = f"/v2/models/{v2.MODEL}"
        routes = [
            Route("/", self.about),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/hf", self.hugging_face, methods=["POST"]),
            Route("/v2", self.v2_server),
            Route("/v2/health/{state:str}", self.v2_health),
            *(
                route
                for path in (model, f"{model}/versions/{v2.VERSION}")
                for route in (
                    Route(path, self.v2_model),
                    Route(f"{path}/ready", self.v2_health),
                    Route(f"{path}/infer", self.v2_infer, methods=["POST"]),
                )
            ),
            Route("/openapi.json", self.openapi),
            Route("/try", self.try_page),
            Route("/metrics", self.show_metrics),
            Route("/watch", self.show_watch),
        ]
        app = Starlette(
            routes=routes,
            lifespan=self.lifespan,
            middleware=[Middleware(Guard, metrics=self.metrics)],
            exception_handlers={HTTPException: _error, ImageError: _error},
        )
        app.router.redirect_slashes = False  # a redirect would go to the host that the client named
        return app

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start the decoding processes and the regular saving of the watch; end both with the application."""
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
        """Save the watch every `SAVE_SECONDS`, until it is cancelled."""
        while True:
            await anyio.sleep(SAVE_SECONDS)
            self.save()

    def save(self) -> None:
        """Save the watch. A disk error is only logged."""
        try:
            self.watch.save()
        except OSError as error:
            LOG.warning("the numbers of the page Watch are not saved: %s", explained(error))

    def caller(self, request: Request) -> tuple[str, Key | None]:
        """The client of a request: the name of its key, or else its address.

        Raises:
            HTTPException: 401 without a valid key, if keys are required; 503 if the file of keys is damaged.
        """
        address = request.client.host if request.client else ""
        address = "everybody" if self.one_of_many else address
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
        if _loopback(host) and "x-forwarded-for" not in request.headers and not self.one_of_many:
            return
        if self.keys is None or not (key := self.caller(request)[1]) or not key.operator:
            raise HTTPException(403, "Only the owner of this server may read this.")

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics: counters for Prometheus, for the owner."""
        self.only_owner(request)
        if self.one_of_many:
            raise HTTPException(404, "Each replica has other counters. Those of all are in the metrics of Ray.")
        self.metrics.held.set(self.bodies.held.total())
        self.metrics.waiting.set(self.decoding.length + self.answering.length)
        self.metrics.clients(await self.watch.all())
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4")

    async def show_watch(self, request: Request) -> Response:
        """GET /watch: the queries of each client, for the owner."""
        self.only_owner(request)
        return JSONResponse({"clients": await self.watch.all()})

    async def about(self, request: Request) -> Response:
        """GET /: how to send pictures, and the classes."""
        return JSONResponse(
            {
                "classes": self.engine.classes,
                "ask": "POST /predict with the bytes of a picture (JPEG, PNG, WebP, BMP, GIF, TIFF), or "
                f"of a zip of at most {AT_ONCE}; at most {mib(MAX_BYTES)}",
                "size": f"the centre square, resized to {self.engine.size} x {self.engine.size}",
            }
        )

    async def predict(self, request: Request) -> Response:
        """POST /predict: posteriors of one picture, or of all pictures in a zip archive."""
        said, posteriors = await self.ask(request, "pictures")
        return JSONResponse({"predictions": predictions(posteriors, self.engine.classes)} | said)

    async def hugging_face(self, request: Request) -> Response:
        """POST /hf: the likeliest classes of one picture, in the form of Hugging Face's image classification."""
        said, posteriors = await self.ask(request, "hugging_face")
        return JSONResponse(hugging_face.answer(posteriors[0], self.engine.classes, said["top_k"]))

    async def v2_infer(self, request: Request) -> Response:
        """POST /v2/models/classifier/infer: posteriors (N, K) of pixels (N, 3, S, S)."""
        said, posteriors = await self.ask(request, "v2", {"head": request.headers.get(v2.HEAD)})
        body, headers = v2.answer(posteriors, said)
        return Response(body, headers=headers)

    async def v2_server(self, request: Request) -> Response:
        """GET /v2: name and extensions of the server."""
        return JSONResponse(v2.SERVER)

    async def v2_health(self, request: Request) -> Response:
        """GET /v2/health/...: whether the server is live or ready."""
        return JSONResponse({request.path_params.get("state", "ready"): True})

    async def v2_model(self, request: Request) -> Response:
        """GET /v2/models/classifier: input and output of the model."""
        return JSONResponse(v2.metadata(self.engine.classes, self.engine.size))

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: the OpenAPI description."""
        root = request.scope.get("root_path", "")
        return JSONResponse(
            description.openapi(self.engine.classes, self.engine.size, root, self.keys is not None)
        )

    async def try_page(self, request: Request) -> Response:
        """GET /try: a page that sends a picture in each form."""
        page, policy = description.try_page(self.engine.size)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def ask(
        self, request: Request, form: str, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Read a request of any form and answer it.

        Returns:
            what the form's answer needs, and defended posteriors (N, K).

        Raises:
            HTTPException, ImageError, ClientDisconnect: if there is no answer.
        """
        name, key = self.caller(request)
        await self.mind_alarm(name)
        async with self.bodies.read(request, name) as body:
            self.metrics.received.inc(len(body))
            said, pixels = await unless_gone(request, self.decode, name, form, options or {}, body)
        await self.charge(name, key, len(pixels))
        return said, await self.answers(request, name, pixels)

    async def mind_alarm(self, name: str) -> None:
        """Do what the owner declared for clients that look like an attack.

        Raises:
            HTTPException: 403 if they are refused.
        """
        if self.watch.action == "tell" or not await self.watch.alarm(name):
            return
        if self.watch.action == "refuse":
            raise HTTPException(403, "Your questions look like an attack on this model. Write to its owner.")
        await anyio.sleep(DELAY)

    async def charge(self, name: str, key: Key | None, count: int) -> None:
        """Count the pictures of today.

        Raises:
            HTTPException: 429 if the key's quota does not suffice for all of them; then none counts.
        """
        left = await self.watch.charge(name, count, key.quota if key else None)
        if left is not None:
            assert key is not None
            raise HTTPException(
                429,
                f"Your key has {left} of {key.quota} pictures left today, and these are {count}. The count starts again "
                "at midnight UTC.",
            )

    async def decode(
        self, client: str, form: str, options: dict[str, Any], body: bytes
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Decode a body when it is the client's turn; see `Decoders.decode`."""
        async with self.decoding.turn(client):
            return await self.decoders.decode(form, options, body)

    async def answers(self, request: Request, client: str, pixels: np.ndarray) -> np.ndarray:
        """Defended posteriors (N, K) of pictures (N, 3, size, size)."""
        self.thread = self.thread or CapacityLimiter(1)
        parts = []
        for start in range(0, len(pixels), PART):
            part = pixels[start : start + PART]
            async with self.answering.turn(client):
                parts.append(await to_thread.run_sync(self.answer, client, part, limiter=self.thread))
            if await request.is_disconnected():
                raise ClientDisconnect
        return np.concatenate(parts)

    def answer(self, client: str, pixels: np.ndarray) -> np.ndarray:
        """Defended posteriors of a few pictures; runs in the only thread that answers."""
        clean, defended = self.engine.answer(pixels)
        self.watch.see(client, pixels, clean)
        return defended


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 address in IPv6 form: ::ffff:127.0.0.1
    return (mapped or address).is_loopback


async def _error(request: Request, error: Exception) -> Response:
    """Return errors as JSON, like all answers."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
