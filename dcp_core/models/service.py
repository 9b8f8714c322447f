"""How to query a prediction service over HTTP: how a picture is sent, and where the answer has the posteriors.

A TOML file describes this. Keys are not part of it: headers name environment variables, as in `"Bearer ${DCP_KEY_1}"`.
"""

import base64
import dataclasses
import io
import json
import math
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from dcp_core.data.tensors import to_image

FORMS = ("raw", "multipart", "json")
PICTURE, NUMBERS = "{picture}", "{pixels}"  # in a JSON body: the picture in base64, and its values
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
VARIABLES = "DCP_KEY_"  # allowed variables begin so: a description must not send others of this machine
SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
MOST_BYTES = 2**20  # largest size of a description
MOST_CLASSES = 100_000
FLOOR = 1e-12  # smallest probability that is kept


class ServiceError(ValueError):
    """A description or an answer that cannot be used. The message says why."""


@dataclass(frozen=True)
class Service:
    """A prediction service.

    Args:
        url: address, http or https.
        size: side in pixels of the pictures that are sent, as PNG.
        classes: names of its classes. Answers with names are put into this order.
        form: how a picture is sent, one of `FORMS`: the bytes of the file; a form with a file; or JSON.
        name: name of the file's field in a form.
        body: the JSON that is sent, a text in which "{picture}" stands for the picture in base64, and "{pixels}" for the
            list of its values from 0 to 1 (channels, rows, columns).
        path: where the answer has the posteriors: keys and numbers with points between them, such as "predictions.0".
        label, score: names of the fields for class and probability, if the answer is a list of objects, one for each class.
        logits: whether the answer has logits and not probabilities.
        headers: names and values of the headers of every request.
        per_second: largest number of requests in a second.
        timeout: seconds that an answer may take.
        retries: how often a request is sent again after a temporary error.

    Raises:
        ServiceError: for impossible values.
    """

    url: str
    size: int
    classes: tuple[str, ...]
    form: str = "raw"
    name: str = "file"
    body: str = ""
    path: str = ""
    label: str = ""
    score: str = ""
    logits: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    per_second: float = 10.0
    timeout: float = 30.0
    retries: int = 5

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ServiceError(
                f"url must be an address that begins with http:// or https://, not {self.url!r:.80}"
            )
        if address.username or address.password:
            raise ServiceError("url must not contain a password: use a header with an environment variable")
        if not 2 <= len(self.classes) <= MOST_CLASSES or len(set(self.classes)) != len(self.classes):
            raise ServiceError("classes must be at least two different names")
        if self.form not in FORMS:
            raise ServiceError(f"form must be one of {', '.join(FORMS)}, not {self.form!r}")
        if self.form == "json" and PICTURE not in self.body and NUMBERS not in self.body:
            raise ServiceError(f"body must contain {PICTURE} or {NUMBERS}")
        if bool(self.label) != bool(self.score):
            raise ServiceError("label and score are given together")
        limits = {"size": (1, 1024), "per_second": (0.001, 1000), "timeout": (0.1, 600), "retries": (0, 20)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ServiceError(f"{name} must be from {low} to {high}, not {getattr(self, name)}")
        for header, value in self.headers.items():
            if any(not name.startswith(VARIABLES) for name in VARIABLE.findall(value)):
                raise ServiceError(
                    f"the header {header} may only name environment variables that begin with {VARIABLES}"
                )
            if SECRET.search(header) and not VARIABLE.search(value):
                raise ServiceError(
                    f'the header {header} looks like a key, and keys are not stored: write "${{{VARIABLES}1}}" and set '
                    "this environment variable"
                )
        if self.form == "json":
            _json(self.body, "body")

    @property
    def host(self) -> str:
        """The name of the machine that is asked."""
        return urlsplit(self.url).netloc

    def request(self, picture: Tensor) -> dict[str, Any]:
        """The arguments of `requests.Session.post` for a picture, uint8 (3, size, size), without the headers.

        Pixels are sent as whole numbers from 0 to 255, as a PNG, or as these divided by 255.
        """
        buffer = io.BytesIO()
        to_image(picture.float() / 255).save(buffer, "PNG")
        content = buffer.getvalue()
        if self.form == "raw":
            return {"data": content, "headers": {"Content-Type": "image/png"}}
        if self.form == "multipart":
            return {"files": {self.name: ("picture.png", content, "image/png")}}
        return {"json": _filled(_json(self.body, "body"), base64.b64encode(content).decode(), picture)}

    def secret_headers(self) -> dict[str, str]:
        """The headers with the values of the environment variables that they name.

        Raises:
            ServiceError: if a variable is not set.
        """
        missing = [
            name for value in self.headers.values() for name in VARIABLE.findall(value) if name not in os.environ
        ]
        if missing:
            raise ServiceError(f"the environment variable {missing[0]} is not set: it has a header of {self.host}")
        return {
            name: VARIABLE.sub(lambda found: os.environ[found[1]], value) for name, value in self.headers.items()
        }

    def read(self, content: bytes) -> Tensor:
        """The logits (K,) in an answer. Classes that it does not name share the probability that is left.

        Raises:
            ServiceError: if the answer is not as described.
        """
        found = _json(content, "the answer")
        for step in filter(None, self.path.split(".")):
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ServiceError(f"the answer has no {self.path!r}: {_short(content)}") from error
        values = self._named(found, content) if self.label else self._listed(found, content)
        if self.logits:
            return torch.tensor(values)
        return torch.tensor(values).clamp_min(FLOOR).log()

    def _listed(self, found: Any, content: bytes) -> list[float]:
        good = isinstance(found, list) and len(found) == len(self.classes) and all(map(_is_number, found))
        if not good:
            raise ServiceError(
                f"the answer must have {len(self.classes)} numbers at {self.path!r}: {_short(content)}"
            )
        if not self.logits and (min(found) < -1e-6 or abs(sum(found) - 1) > 0.02):
            raise ServiceError(
                f"the numbers in the answer are no probabilities, they sum to {sum(found):.3g}: set logits = true if they "
                "are logits"
            )
        return [float(each) for each in found]

    def _named(self, found: Any, content: bytes) -> list[float]:
        if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
            raise ServiceError(f"the answer must have a list of objects at {self.path!r}: {_short(content)}")
        scores: dict[str, float] = {}
        for each in found:
            name, score = str(each.get(self.label)), each.get(self.score)
            if name not in self.classes:
                raise ServiceError(f"the answer names the class {name!r:.60}, which is not in the description")
            if not _is_number(score) or not -1e-6 <= score <= 1.000001:
                raise ServiceError(f"the answer has no probability for {name!r:.60}: {_short(content)}")
            scores[name] = max(0.0, float(score))
        if sum(scores.values()) > 1.02:
            raise ServiceError(f"the probabilities in the answer sum to {sum(scores.values()):.3g}, more than 1")
        left = max(0.0, 1 - sum(scores.values())) / max(1, len(self.classes) - len(scores))
        return [scores.get(name, left) for name in self.classes]


def read_service(text: str) -> Service:
    """The description of a service from TOML.

    Raises:
        ServiceError: for text that is no description. The message says what is wrong.
    """
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ServiceError(f"the description is not TOML: {error}") from error
    known = {each.name: each for each in dataclasses.fields(Service)}
    for name, value in given.items():
        if name not in known:
            raise ServiceError(f"a description has no {name!r:.60}; it has {', '.join(known)}")
        if not _fits(known[name].type, value):
            raise ServiceError(f"{name} has a value of another type: {value!r:.60}")
    missing = [name for name in ("url", "size", "classes") if name not in given]
    if missing:
        raise ServiceError(f"the description lacks {', '.join(missing)}")
    return Service(**given | {"classes": tuple(given["classes"])})


def _fits(kind: Any, value: Any) -> bool:
    texts = list, tuple
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    if kind in (str, int):
        return isinstance(value, kind)
    if isinstance(value, dict):
        return kind == dict[str, str] and all(isinstance(each, str) for each in value.values())
    return kind == tuple[str, ...] and isinstance(value, texts) and all(isinstance(each, str) for each in value)


def _filled(value: Any, picture: str, pixels: Tensor) -> Any:
    """A JSON value with the picture in its places."""
    if isinstance(value, dict):
        return {key: _filled(each, picture, pixels) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, picture, pixels) for each in value]
    if value == NUMBERS:
        return [round(each, 6) for each in (pixels.float() / 255).flatten().tolist()]
    return value.replace(PICTURE, picture) if isinstance(value, str) else value


def _json(content: str | bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ServiceError(f"{what} is not JSON: {_short(content)}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(content: str | bytes) -> str:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return " ".join(text.split())[:200]
