"""Decodes request bodies in processes of their own, which can be killed.

A decoder is C code that cannot be interrupted from Python. `dcp_core.data.structure` refuses what would take long before it
is decoded; for what it does not foresee, the kernel ends a process that uses too much processor time or memory.
"""

import io
import json
import multiprocessing
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from anyio import CapacityLimiter, fail_after, to_thread
from torch import Tensor

from dcp_core.data.archives import read_archive
from dcp_core.data.images import read_image, to_tensor
from dcp_core.data.structure import ImageError, Work

AT_ONCE = 100  # most pictures in one request
UNPACKED = 64 * 2**20  # most bytes of an archive's pictures
PROCESSOR_SECONDS = 0.8  # most processor time of one request; the work that is allowed takes about half a second
MEMORY = 2**30  # most bytes that decoding one request may take
PATIENCE = 20.0  # most seconds on the clock, when the processor is busy with something else
ZIP = b"PK\x03\x04"

_TOO_LONG = "Decoding takes too long. Send fewer pictures, or save them again as PNG or JPEG with fewer pixels."
_FORKS = multiprocessing.get_context("forkserver")


def pictures(body: bytes, size: int, work: Work | None = None) -> Iterator[tuple[str, Tensor]]:
    """Name and pixels, uint8 (3, size, size), of each picture in a request; the name of a single picture is empty.

    Each picture is resized before the next is decoded, because a zip of small files may contain gigabytes of pixels.

    Args:
        work: what may be done for all pictures together, by default `MAX_WORK`.

    Raises:
        ImageError: for the first picture that cannot be read, or if all together take too much work.
    """
    work = work or Work()
    if not body.startswith(ZIP):
        yield "", _bytes(to_tensor(read_image(body, work=work), size))
        return
    found = read_archive(io.BytesIO(body), max_files=AT_ONCE, max_total_bytes=UNPACKED, work=work)
    for name, picture in found:
        if isinstance(picture, ImageError):
            raise ImageError(f"{name}: {picture}")
        yield name, _bytes(to_tensor(picture, size))


def _bytes(pixels: Tensor) -> Tensor:
    return (pixels * 255).round().to(torch.uint8)


class Decoders:
    """Processes that decode for an API. As many are started as there are requests at a time."""

    def __init__(self, size: int) -> None:
        """Args: size: side of the pictures that the victim takes."""
        self.size = size
        self.idle: list[_Decoder] = []
        self._threads: CapacityLimiter | None = None

    async def decode(self, body: bytes) -> tuple[list[str], Tensor]:
        """Names and pixels, float32 (N, 3, size, size) in [0, 1], of the pictures in a request.

        The process is killed if this is cancelled, or takes too long.

        Raises:
            ImageError: if any picture cannot be read.
        """
        self._threads = self._threads or CapacityLimiter(1000)  # the queue before this decides how many run
        decoder = self.idle.pop() if self.idle else _Decoder(self.size)
        try:
            if decoder.process is None:
                await to_thread.run_sync(decoder.start, limiter=self._threads)
            with fail_after(PATIENCE):
                names, pixels = await to_thread.run_sync(
                    decoder.ask, body, abandon_on_cancel=True, limiter=self._threads
                )
        except ImageError:
            self.idle.append(decoder)
            raise
        except (EOFError, OSError) as error:  # also TimeoutError: the kernel or the clock ended it
            decoder.kill()
            raise ImageError(_TOO_LONG) from error
        except BaseException:  # the request was given up
            decoder.kill()
            raise
        self.idle.append(decoder)
        return names, torch.from_numpy(pixels).float() / 255

    async def prepare(self) -> None:
        """Start a first process, so that the first request need not wait for it."""
        with suppress(ImageError):
            await self.decode(b"")

    def close(self) -> None:
        """End the processes."""
        while self.idle:
            self.idle.pop().kill()


class _Decoder:
    """One process and the pipe to it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None

    def start(self) -> None:
        """Start the process: the first from a new server process, which takes seconds, all others from a copy of it."""
        _FORKS.set_forkserver_preload([__name__])
        self.pipe, theirs = _FORKS.Pipe()
        self.process = _FORKS.Process(target=_serve, args=(theirs, self.size), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, body: bytes) -> tuple[list[str], np.ndarray]:
        """Send a body and wait for its pictures; runs in a thread."""
        assert self.pipe is not None
        self.pipe.send_bytes(body)
        said = json.loads(self.pipe.recv_bytes())
        if "error" in said:
            raise ImageError(said["error"])
        names: list[str] = said["names"]
        pixels = np.frombuffer(bytearray(self.pipe.recv_bytes()), np.uint8)
        return names, pixels.reshape(len(names), 3, self.size, self.size)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()


def _serve(pipe: Connection, size: int) -> None:
    """What a process does: decode one body after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes the pipe
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default is to end the process
    _bound_memory()
    with suppress(EOFError, OSError):
        while True:
            body = pipe.recv_bytes()
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
            try:
                found = dict(pictures(body, size))
                answer: dict[str, object]
                answer, pixels = {"names": list(found)}, torch.stack(list(found.values())).numpy().tobytes()
            except ImageError as error:
                answer, pixels = {"error": str(error)}, b""
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send_bytes(json.dumps(answer).encode())
            if pixels:
                pipe.send_bytes(pixels)


def _bound_memory() -> None:
    """Let this process take `MEMORY` bytes more than now, where the system can say how much that is."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
