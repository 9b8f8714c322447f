"""A prediction API over HTTP that answers pictures with defended posteriors. It does not reveal victim or defense.

GET  /          how to send pictures, and the classes
POST /predict   the bytes of one picture, or of a zip archive of pictures
"""

import io
import secrets

import torch
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from dcp_core.answers import defend, predictions
from dcp_core.data.archives import read_archive
from dcp_core.data.images import MAX_BYTES, ImageError, mib, read_image, to_tensor
from dcp_core.defenses import Defense
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.models.zoo import Victim

AT_ONCE = 100  # most pictures in one request
ZIP = b"PK\x03\x04"


def application(victim: Victim, defense: Defense, device: str = "cpu") -> Starlette:
    """The API as an ASGI application.

    Requests are answered one after another, so that there are never more threads than cores. Randomised defenses use new
    random numbers for every request.

    Raises:
        VictimError: if the second network of the defense is missing.
    """
    armed, card = arm(defense, victim.card.name, device), victim.card
    turn = CapacityLimiter(1)

    def answer(body: bytes) -> dict[str, object]:
        """The JSON answer to one request.

        Raises:
            ImageError: if any picture cannot be read; then none is answered.
        """
        pictures = _read(body, card.size)
        pixels = torch.stack(list(pictures.values()))
        answers = defend(predict(victim.model, pixels), armed, secrets.randbits(31), pixels)
        said = predictions(answers.defended, card.classes)
        return {"predictions": said} | ({"pictures": list(pictures)} if body.startswith(ZIP) else {})

    async def ask(request: Request) -> Response:
        body = await _body(request)
        try:
            return JSONResponse(await to_thread.run_sync(answer, body, limiter=turn))
        except ImageError as error:
            raise HTTPException(400, str(error)) from error

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "classes": card.classes,
                "ask": f"POST {request.url_for('ask')} with the bytes of a picture (JPEG, PNG, WebP, BMP, GIF, TIFF), or "
                f"of a zip of at most {AT_ONCE}; at most {mib(MAX_BYTES)}",
                "size": f"the centre square, resized to {card.size} x {card.size}",
            }
        )

    routes = [Route("/", about), Route("/predict", ask, methods=["POST"], name="ask")]
    return Starlette(routes=routes, exception_handlers={HTTPException: _error})


def _read(body: bytes, size: int) -> dict[str, Tensor]:
    """Pixels (3, size, size) in [0, 1] by the name of the picture; the name of a single picture is empty.

    Each picture is resized before the next is decoded, because a zip of small files may contain gigabytes of pixels.
    """
    if not body.startswith(ZIP):
        return {"": to_tensor(read_image(body), size)}
    pictures: dict[str, Tensor] = {}
    for name, picture in read_archive(io.BytesIO(body), max_files=AT_ONCE):
        if isinstance(picture, ImageError):
            raise ImageError(f"{name}: {picture}")
        pictures[name] = to_tensor(picture, size)
    return pictures


async def _body(request: Request) -> bytes:
    """Read the body of a request, up to the allowed size."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(
                413, f"A request may have at most {mib(MAX_BYTES)}: send fewer or smaller pictures."
            )
    if not body:
        raise HTTPException(400, "The request has no body: send the bytes of a picture.")
    return bytes(body)


async def _error(request: Request, error: Exception) -> Response:
    """Return errors as JSON, like all answers."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
