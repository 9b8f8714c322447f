"""A victim that is a prediction service: it is queried over HTTP, with one picture in each request.

Every answer is kept on disk as it arrives. A picture that was answered before is not sent again. Requests are counted before
they are sent, also those that fail, so that the count is never below that of the service. One process sends at a time.

One picture, the probe, is the exception: it is sent again from time to time, to notice that the service has changed.
"""

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import requests
import torch
from torch import Tensor, nn

from dcp_core.files import home
from dcp_core.models.service import Service

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a request is sent again; they double each time
PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses after which the same request may succeed
MOST_ANSWER = 16 * 2**20  # largest size of an answer in bytes
PROBE_AFTER = 600.0  # seconds after which the probe is sent again before a new picture
EQUAL = 0.02  # largest difference of posteriors between two answers that count as equal


class RemoteError(ValueError):
    """A service does not answer as it should, or the limit on requests is reached. No answer that arrived is lost."""


class Ledger:
    """The answers of a service and the number of requests sent to it, in a file that several processes can use."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with self._open() as base:
            base.execute(
                "CREATE TABLE IF NOT EXISTS answers (picture BLOB PRIMARY KEY, logits BLOB) WITHOUT ROWID"
            )
            base.execute("CREATE TABLE IF NOT EXISTS sent (requests INTEGER)")
            base.execute("CREATE TABLE IF NOT EXISTS probe (picture BLOB, asked REAL)")
            base.execute("INSERT INTO sent SELECT 0 WHERE NOT EXISTS (SELECT * FROM sent)")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as base, base:
                yield base
        except sqlite3.Error as error:
            raise RemoteError(
                f"{self.path} cannot be used ({error}): free disk space, or delete it if it is damaged"
            ) from error

    def find(self, picture: bytes) -> Tensor | None:
        """The stored logits (K,) for a picture with this sha256 digest; None if there are none."""
        with self._open() as base:
            row = base.execute("SELECT logits FROM answers WHERE picture = ?", (picture,)).fetchone()
        return None if row is None else torch.from_numpy(np.frombuffer(row[0], np.float32).copy())

    def keep(self, picture: bytes, logits: Tensor) -> None:
        """Store the logits (K,) for the picture with this sha256 digest."""
        with self._open() as base:
            content = logits.float().numpy().tobytes()
            base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (picture, content))

    def count(self, most: int) -> None:
        """Count a request before it is sent.

        Raises:
            RemoteError: if that would be more than `most` requests in all.
        """
        with self._open() as base:
            done = base.execute("UPDATE sent SET requests = requests + 1 WHERE requests < ?", (most,)).rowcount
        if not done:
            raise RemoteError(
                f"the limit of {most:,} requests is reached: add the service again with --replace and a higher "
                "--most-requests. Answers that arrived are kept and not requested again"
            )

    def set_probe(self, picture: bytes | None) -> None:
        """Set the probe, given as the bytes of its pixel values; None removes it."""
        with self._open() as base:
            base.execute("DELETE FROM probe")
            if picture is not None:
                base.execute("INSERT INTO probe VALUES (?, ?)", (picture, time.time()))

    @property
    def has_probe(self) -> bool:
        """Whether there is a probe."""
        with self._open() as base:
            return base.execute("SELECT 1 FROM probe").fetchone() is not None

    @property
    def due_probe(self) -> bytes | None:
        """The probe (bytes of its pixel values), if it was not sent in the last `PROBE_AFTER` seconds; otherwise None."""
        with self._open() as base:
            row = base.execute(
                "SELECT picture FROM probe WHERE asked < ?", (time.time() - PROBE_AFTER,)
            ).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def turn(self) -> Iterator[int]:
        """Wait until no other process or thread sends requests to this service, then keep others waiting until the end of
        the `with` block.

        The value is the descriptor of an open file. Its modification time is the earliest time of the next request.
        """
        handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    @property
    def requests(self) -> int:
        """Number of requests sent so far."""
        with self._open() as base:
            return int(base.execute("SELECT requests FROM sent").fetchone()[0])


def ledger_of(service: Service) -> Ledger:
    """The ledger of a service. Services with other addresses, bodies or pictures have their own."""
    asked = (service.url, service.size, service.classes, service.form, service.name, service.body, service.path)
    digest = hashlib.sha256(repr((*asked, service.label, service.score, service.logits)).encode()).hexdigest()
    return Ledger(home() / "services" / f"{digest[:16]}.sqlite")


class RemoteClassifier(nn.Module):
    """A service as a module that maps pixels (N, 3, size, size) in [0, 1] to logits (N, K), without gradients.

    Pixels are rounded to 8 bits, because they are sent as pictures.
    """

    def __init__(self, service: Service, most: int, wait: Callable[[float], object] = time.sleep) -> None:
        """Prepare a connection. Nothing is sent yet.

        Args:
            most: number of requests that may be sent in all, also by other processes and in earlier sessions.
            wait: function that waits for a number of seconds.
        """
        super().__init__()
        self.service, self.most, self.ledger = service, most, ledger_of(service)
        self.known_classes = len(service.classes)
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # callers read a module's device from it
        self._wait = wait
        self._session = requests.Session()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K); sends the pictures that were not answered before.

        Raises:
            RemoteError: if the service does not answer, or the limit is reached.
            ServiceError: if an answer is not as described, or a key is missing.
        """
        pictures = pixels.detach().cpu().mul(255).round().clamp(0, 255).byte()
        return torch.stack([self._answer(picture) for picture in pictures]).to(pixels.device)

    def choose_probe(self, picture: Tensor) -> bool:
        """Send an answered picture, uint8 (3, size, size), again. If the answer is the same, the picture becomes the probe,
        with which later sessions notice that the service has changed.

        Returns:
            Whether the answer is the same.

        Raises:
            RemoteError, ServiceError: as `forward`.
        """
        with self.ledger.turn() as handle:
            same = self._still(picture, handle)
        self.ledger.set_probe(_values(picture) if same else None)
        return same

    def _answer(self, picture: Tensor) -> Tensor:
        digest = _digest(picture)
        found = self.ledger.find(digest)
        if found is None:
            with self.ledger.turn() as handle:
                self._check_unchanged(handle)
                found = self.ledger.find(digest)  # another process may have asked meanwhile
                if found is None:
                    found = self.service.read(self._ask(picture, handle))
                    self.ledger.keep(digest, found)
        return found

    def _check_unchanged(self, handle: int) -> None:
        """Send the probe again if it is due, and raise an error if its answer has changed."""
        values = self.ledger.due_probe
        if values is None:
            return
        side = self.service.size
        if not self._still(torch.frombuffer(bytearray(values), dtype=torch.uint8).view(3, side, side), handle):
            raise RemoteError(
                f"{self.service.host} has changed: it gives another answer to a picture than before. Answers of two models "
                f"must not be mixed. To start over, delete {self.ledger.path}, which also resets the count of "
                f"{self.ledger.requests:,} requests, and add the service again with --replace"
            )
        self.ledger.set_probe(values)

    def _still(self, picture: Tensor, handle: int) -> bool:
        """Whether a picture that was answered gets the same answer again."""
        known = self.ledger.find(_digest(picture))
        again = self.service.read(self._ask(picture, handle))
        return known is None or float((again.softmax(-1) - known.softmax(-1)).abs().max()) <= EQUAL

    def _ask(self, picture: Tensor, handle: int) -> bytes:
        """Send a picture, and return the content of the answer."""
        request, secrets = self.service.request(picture), self.service.secret_headers()
        headers = request.pop("headers", {}) | secrets
        pause, reason = FIRST_PAUSE, ""
        for attempt in range(self.service.retries + 1):
            if attempt:
                self._wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            self._keep_rate(handle)
            self.ledger.count(self.most)
            try:
                # A redirect would send the keys to another address.
                answer = self._session.post(
                    self.service.url,
                    headers=headers,
                    timeout=self.service.timeout,
                    allow_redirects=False,
                    stream=True,
                    **request,
                )
                with answer:
                    content = answer.raw.read(MOST_ANSWER + 1, decode_content=True)
            except (requests.RequestException, OSError, ValueError) as error:
                reason = f"no answer ({type(error).__name__})"
                continue
            except Exception as error:  # urllib3's errors while the answer is read
                reason = f"an incomplete answer ({type(error).__name__})"
                continue
            if answer.status_code == 200 and len(content) <= MOST_ANSWER:
                expected = answer.headers.get("Content-Length", "")
                if (
                    not expected.isdigit()
                    or len(content) >= int(expected)
                    or answer.headers.get("Content-Encoding")
                ):
                    return content
                reason = "an incomplete answer"
                continue
            reason = f"status {answer.status_code}: {_hidden(content, secrets)}"
            if answer.status_code not in PASSING:
                raise RemoteError(f"{self.service.host} refuses the request with {reason}")
            asked = _asked_pause(answer.headers.get("Retry-After", ""))
            if asked > LONGEST_PAUSE:
                raise RemoteError(
                    f"{self.service.host} asks to wait {asked / 60:,.0f} minutes ({reason}). Try again then; the "
                    "answers that arrived are kept"
                )
            pause = max(pause, asked)
        raise RemoteError(
            f"{self.service.host} does not answer after {self.service.retries + 1} attempts: {reason}. Try again later; the "
            "answers that arrived are kept"
        )

    def _keep_rate(self, handle: int) -> None:
        """Wait so that there are at most `per_second` requests in a second, of all processes together."""
        now, pause = time.time(), 1 / self.service.per_second
        planned = min(os.fstat(handle).st_mtime, now + LONGEST_PAUSE + pause)  # clocks can be set back
        if planned > now:
            self._wait(planned - now)
        later = max(now, planned) + pause
        os.utime(handle, (later, later))


def _values(picture: Tensor) -> bytes:
    """The values of a picture, uint8 (3, size, size)."""
    return picture.contiguous().numpy().tobytes()


def _digest(picture: Tensor) -> bytes:
    return hashlib.sha256(_values(picture)).digest()


def _asked_pause(text: str) -> float:
    """Seconds that a service asks to wait in `Retry-After`, a number or a date (RFC 9110); 0 for other texts."""
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            seconds = 0.0
    return max(0.0, seconds)


def _hidden(content: bytes, secrets: dict[str, str]) -> str:
    """The beginning of an answer, without the secret values of headers, which some services repeat."""
    text = " ".join(content[:2000].decode("utf-8", "replace").split())
    for value in secrets.values():
        for word in {value, *value.split()}:
            text = text.replace(word, "***") if len(word) > 3 else text
    return text[:200]
