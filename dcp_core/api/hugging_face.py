"""The form of Hugging Face's task "image classification", so that its clients can use this API.

A request is a picture, or JSON: {"inputs": BASE64, "parameters": {"top_k": 5}}. An answer is [{"label", "score"}].
"""

import base64
import json
from typing import Any

import numpy as np

from dcp_core.api.pictures import ZIP, largest_first, pictures
from dcp_core.data.structure import ImageError

TOP_K = 5  # as many as a pipeline of transformers returns


def read(body: bytes, size: int, options: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """See `pictures.read`. The answer needs `top_k`."""
    top_k = TOP_K
    if body.lstrip()[:1] == b"{":
        body, top_k = _opened(body)
    if body.startswith(ZIP):
        raise ImageError("A request in this form has one picture: send zip archives to /predict.")
    ((_, pixels),) = pictures(body, size)
    return {"top_k": top_k}, pixels[None]


def _opened(body: bytes) -> tuple[bytes, int]:
    """The picture and `top_k` of a request in JSON."""
    try:
        request = json.loads(body)
        given = request.get("parameters") or {}
        top_k, function = given.get("top_k"), given.get("function_to_apply")
        picture = base64.b64decode(request["inputs"].rpartition(",")[2], validate=True)  # also of a data URL
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ImageError(
            'This JSON is not a request of the form {"inputs": "a picture in Base64", "parameters": {"top_k": 5}}.'
        ) from error
    if function not in (None, "softmax"):
        raise ImageError('Answers are probabilities: leave out function_to_apply, or set it to "softmax".')
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ImageError("top_k must be a whole number of at least 1.")
    return picture, TOP_K if top_k is None else top_k


def answer(posterior: np.ndarray, classes: tuple[str, ...], top_k: int) -> list[dict[str, Any]]:
    """A posterior (K,) as Hugging Face sends it: the `top_k` likeliest classes, the likeliest first."""
    return [{"label": classes[k], "score": p} for k, p in largest_first(posterior)[:top_k]]
