"""Add a prediction service as a victim. First, its answers to labelled test pictures are checked."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dcp_core.files import read_regular
from dcp_core.given.add import aligned, check_name, stored_with_pictures
from dcp_core.given.check import Check, check
from dcp_core.given.pictures import find_pictures, unreadable
from dcp_core.making.progress import Making, Progress
from dcp_core.models import storing, zoo
from dcp_core.models.preprocessing import Preprocessing
from dcp_core.models.remote import RemoteClassifier
from dcp_core.models.service import MOST_BYTES, Service, read_service

USUAL = 500  # test pictures
UNSTEADY = (
    "another answer to the same picture: the service answers at random, as some defenses do, or it changed during the "
    "check. The first answer to each picture is kept and used"
)
EXAMPLE = """\
url = "https://example.com/predict"   # your service, or one that you may test
size = 224                            # side in pixels of the pictures that are sent
classes = ["cat", "dog"]
form = "json"                         # or "raw" (the bytes of a PNG), or "multipart" (a form with a file)
body = '{"image": "{picture}"}'       # {picture}: base64; {pixels}: a list of numbers
path = "predictions"                  # where the answer has the probabilities
label = "label"                       # of [{"label": ..., "score": ...}], also of the best few only
score = "score"
headers = {Authorization = "Bearer ${DCP_KEY_1}"}   # from an environment variable, which is not stored
per_second = 5                        # most requests in a second"""


@dataclass(frozen=True)
class ServiceExamination:
    """The result of the first requests to a service. Only its answers are stored yet.

    Args:
        text: the description.
        most_requests: limit on requests in all.
        sent: requests sent so far.
        problems: a sentence for each picture that could not be read.
        images: uint8 (N, 3, S, S), with `labels` (N,).
    """

    service: Service
    text: str
    check: Check
    images: Tensor
    labels: Tensor
    data: str
    most_requests: int
    price_per_1000: float
    sent: int
    problems: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.service.classes

    def words(self) -> list[str]:
        """The result of the examination, in sentences."""
        check = self.check
        low, high = check.interval
        return [
            f"{self.service.host}: {len(self.classes)} classes, {self.sent:,} of {self.most_requests:,} requests sent"
            + (f", {self.sent * self.price_per_1000 / 1000:.2f} in money" if self.price_per_1000 else ""),
            f"accuracy {check.accuracy:.2f} % ({low:.1f} to {high:.1f}) on {check.count:,} test pictures; always naming the "
            f"most frequent class: {check.chance:.1f} %",
            *check.findings,
            *unreadable(self.problems),
        ]


def read_description(path: Path) -> tuple[Service, str]:
    """A description and its text.

    Raises:
        ServiceError: for text that is no description.
        OSError: for a file that cannot be read.
    """
    text = read_regular(path, MOST_BYTES).decode("utf-8", "replace")
    return read_service(text), text


def examine_service(
    path: Path,
    data: str,
    *,
    most_requests: int,
    price_per_1000: float = 0.0,
    most: int = USUAL,
    wait: Callable[[float], object] | None = None,
) -> Making[ServiceExamination]:
    """Ask a service about labelled test pictures. Answers are kept as they arrive, so a repeated call goes on.

    Ask only a service that is yours or that you may test.

    Args:
        path: the description, see `models/service.py`.
        data: see `pictures.find_pictures`.
        most_requests: limit on requests in all, also for later attacks on this victim.
        price_per_1000: price of 1,000 requests, in any currency.
        most: largest number of test pictures.
        wait: function that waits for a number of seconds. Default: `time.sleep`.

    Raises:
        ValueError: if description, pictures and answers do not fit together, or the limit is reached.
    """
    service, text = read_description(path)
    found = find_pictures(data)
    images, labels, problems = yield from found.read(service.size, 1.0, most)
    labels, _ = aligned(found, labels, len(service.classes), service.classes)
    model = RemoteClassifier(service, most_requests, *([wait] if wait else []))

    def ask(pixels: Tensor, how: Preprocessing) -> Tensor:
        with torch.inference_mode():
            return model(pixels).clone()

    yield Progress("asking the service", 0.0)
    measured = yield from check(
        ask, images, labels, service.classes, Preprocessing(service.size), outputs="logits"
    )
    if not model.ledger.has_probe and model.ledger.requests < most_requests and not model.choose_probe(images[0]):
        measured = dataclasses.replace(measured, findings=(*measured.findings, UNSTEADY))
    return ServiceExamination(
        service,
        text,
        measured,
        images,
        labels,
        data,
        most_requests,
        price_per_1000,
        model.ledger.requests,
        tuple(problems),
    )


def accept_service(
    name: str, found: ServiceExamination, *, replace: bool = False, root: Path | None = None
) -> zoo.Card:
    """Store an examined service as a victim; see `given.accept`."""
    check_name(name, replace)
    described = zoo.Card(
        name=name,
        title=f"{name} ({found.service.host})",
        dataset="",
        architecture="service",
        classes=found.classes,
        size=found.service.size,
        source=zoo.SERVICE,
        recipe={
            "most_requests": found.most_requests,
            "price_per_1000": found.price_per_1000,
            "test_pictures": found.data,
            "findings": list(found.check.findings),
        },
        hardware=f"service at {found.service.host}",
    )

    def save(card: zoo.Card) -> zoo.Card:
        return storing.save_service(found.text.encode(), card, found.check.logits, found.labels, root)

    return stored_with_pictures(described, found.images, found.labels, save, root)
