"""Middleware for every request: an id, a deadline, headers for browsers, one line in the log, and the counters."""

import logging
import os
import secrets
import time

import anyio
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcp_core.api.metrics import Metrics
from dcp_core.api.v2 import MODEL

LOG = logging.getLogger("dcp.api")
SECONDS = 90  # time limit of a whole request, from its head to the last byte of the answer
PATHS = ("/", "/predict", "/hf", "/try", "/metrics", "/watch", f"/v2/models/{MODEL}/infer")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that gives each request an id, a deadline, headers, a line in the log, and counts it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, seconds: float = SECONDS) -> None:
        self.app, self.metrics, self.seconds = app, metrics, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        name, start, answer = secrets.token_hex(8), time.monotonic(), _Answer(send)
        answer.headers = {**HEADERS, "X-Request-Id": name}
        outcome = "error"
        try:
            with anyio.fail_after(self.seconds):
                await self.app(scope, receive, answer)
            outcome = str(answer.status)
        except ClientDisconnect:
            outcome = "gone"
        except TimeoutError:
            if answer.status is None:
                late = JSONResponse(
                    {"error": "The server is too busy: try again later."}, 503, {"Connection": "close"}
                )
                await late(scope, receive, answer)
            outcome = str(answer.status)
        finally:
            self._note(Request(scope), name, outcome, time.monotonic() - start, answer.bytes)
        return None

    def _note(self, request: Request, name: str, outcome: str, seconds: float, sent: int) -> None:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        path = path if path in PATHS else "other"  # few labels, whatever path is requested
        self.metrics.seconds.labels(path, outcome).observe(seconds)
        self.metrics.sent.inc(sent)
        if not outcome.startswith("2"):
            self.metrics.refused.labels(outcome).inc()
        client = request.scope.get("dcp.client") or (request.client.host if request.client else "")
        LOG.info("%s %r %s %r %s %.3f s", name, client, request.method, request.url.path[:200], outcome, seconds)


class _Answer:
    """Sends an answer with more headers, and remembers its status and size."""

    def __init__(self, send: Send) -> None:
        self.send, self.headers, self.bytes = send, dict[str, str](), 0
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self.headers.items():
                headers.setdefault(name, value)  # the page /try has its own policy
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self.send(message)


class DashboardHeaders:
    """ASGI middleware for the dashboard: headers for browsers, where an answer has not set them itself.

    The dashboard can be framed by itself, which Streamlit's components need, and by the addresses in `DCP_FRAMED_BY`. It
    shows no pictures of other servers.
    """

    def __init__(self, app: ASGIApp) -> None:
        framed_by = " ".join(["'self'", *os.environ.get("DCP_FRAMED_BY", "").split()])
        self.app = app
        self.headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": f"frame-ancestors {framed_by}; img-src 'self' data: blob:; object-src 'none'",
            "Referrer-Policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer = _Answer(send)
        answer.headers = self.headers
        return await self.app(scope, receive, answer)
