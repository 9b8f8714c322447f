"""The descriptions of the API that it serves itself: OpenAPI, and a page that sends a picture."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from dcp_core.api import v2
from dcp_core.api.pictures import AT_ONCE
from dcp_core.data.images import MAX_BYTES, mib

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_REFUSALS = {
    "400": "The request or a picture in it cannot be read.",
    "401": "There is no valid key.",
    "403": "The questions of this client look like an attack.",
    "413": f"The body has more than {mib(MAX_BYTES)}.",
    "429": "The quota is used up, or too many requests wait.",
    "503": "The server is too busy.",
}


def openapi(classes: tuple[str, ...], size: int, root: str, keys: bool) -> dict[str, Any]:
    """The description of the API by the OpenAPI specification 3.1.

    Args:
        size: side of the pictures that the classifier takes.
        root: where the API is mounted.
        keys: whether clients need a key.
    """
    own = _object(
        predictions=_array(_array(_object(**{"class": {"enum": list(classes)}}, probability=_PROBABILITY))),
        pictures=_array({"type": "string"}),
    )
    hugging_face = _array(_object(label={"enum": list(classes)}, score=_PROBABILITY))
    base64_request = _object(
        inputs={"type": "string"}, parameters=_object(top_k={"type": "integer", "minimum": 1})
    )
    tensor = {
        "name": {"type": "string"},
        "datatype": {"const": "FP32"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": _NUMBERS,
    }
    infer = f"/v2/models/{v2.MODEL}/infer"
    paths: dict[str, Any] = {
        "/predict": _operation(
            f"Classify a picture, or a zip archive of at most {AT_ONCE}. The centre square of each is resized to "
            f"{size} x {size} pixels.",
            {"image/*": _PICTURE, "application/zip": _PICTURE},
            own,
        ),
        "/hf": _operation(
            "Classify a picture; request and answer have the form of Hugging Face's image classification.",
            {"image/*": _PICTURE, "application/json": {"schema": base64_request}},
            hugging_face,
        ),
        infer: _operation(
            f"Classify pixels between 0 and 1, shape [N, 3, {size}, {size}], with KServe's V2 protocol. "
            "The binary tensor extension is supported.",
            {"application/json": {"schema": _object(inputs=_array(_object(**tensor)))}},
            _object(
                model_name={"const": v2.MODEL},
                model_version={"const": v2.VERSION},
                outputs=_array(_object(**tensor)),
            ),
        ),
        f"/v2/models/{v2.MODEL}": {
            "get": _answer("The model's input and output, V2 protocol.", {"type": "object"})
        },
        "/v2/health/ready": {"get": _answer("Whether the server is ready, V2 protocol.", {"type": "object"})},
    }
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Image classifier",
            "version": "1",
            "description": "Answers pictures with probabilities.",
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
    }
    if keys:
        whole["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        whole["security"] = [{"key": []}]
    return whole


def _operation(summary: str, content: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    refusals = {
        status: {
            "description": words,
            "content": {"application/json": {"schema": _object(error={"type": "string"})}},
        }
        for status, words in _REFUSALS.items()
    }
    described = _answer(summary, schema)
    described["responses"] |= refusals
    return {"post": {**described, "requestBody": {"required": True, "content": content}}}


def _answer(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {"summary": summary, "responses": {"200": {"description": "The answer.", "content": content}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


@cache
def try_page(size: int) -> tuple[str, str]:
    """The page that tries the API, and its Content-Security-Policy: it loads nothing but its own script and style."""
    page = files("dcp_core.api").joinpath("try.html").read_text("utf-8").replace("$SIZE", str(size))
    style, script = (_hash(page, tag) for tag in ("style", "script"))
    return page, (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    match = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    assert match is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}'"
