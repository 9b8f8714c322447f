"""Decodes request bodies in processes of their own, which can be killed.

A decoder is C code that cannot be interrupted from Python. `dcp_core.data.structure` refuses what would take long before it
is decoded; for what it does not foresee, the kernel ends a process that uses too much processor time or memory.
"""

import json
import multiprocessing
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from anyio import CapacityLimiter, fail_after, to_thread

from dcp_core.api import hugging_face, pictures, v2
from dcp_core.data.structure import ImageError

FORMS = {"pictures": pictures.read, "hugging_face": hugging_face.read, "v2": v2.read}
PROCESSOR_SECONDS = 0.8  # limit of processor time for one request; the allowed work takes about half a second
MEMORY = 2**30  # limit of memory for decoding one request, in bytes
PATIENCE = 20.0  # limit of elapsed seconds, for a busy processor

_TOO_LONG = "Decoding takes too long. Send fewer pictures, or save them again as PNG or JPEG with fewer pixels."
_FORKS = multiprocessing.get_context("forkserver")


class Decoders:
    """Processes that decode for an API. As many are started as there are requests at a time."""

    def __init__(self, size: int) -> None:
        """Start no process yet.

        Args:
            size: side in pixels of the pictures that the victim takes.
        """
        self.size = size
        self.idle: list[_Decoder] = []
        self._threads: CapacityLimiter | None = None

    async def decode(self, form: str, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], np.ndarray]:
        """Decode a request. Returns what its answer needs later, and its pixels, float32 (N, 3, size, size) in [0, 1].

        The process is killed if this is cancelled, or takes too long.

        Args:
            form: one of `FORMS`.
            options: what the form needs from the request's head.

        Raises:
            ImageError: if the request or any picture in it cannot be read.
        """
        self._threads = self._threads or CapacityLimiter(1000)  # the queue before this decides how many run
        decoder = self.idle.pop() if self.idle else _Decoder(self.size)
        try:
            if decoder.process is None:
                await to_thread.run_sync(decoder.start, limiter=self._threads)
            with fail_after(PATIENCE):
                said, pixels = await to_thread.run_sync(
                    decoder.ask, form, options, body, abandon_on_cancel=True, limiter=self._threads
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
        return said, pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) / np.float32(255)

    async def prepare(self) -> None:
        """Start a first process, so that the first request need not wait for it."""
        with suppress(ImageError):
            await self.decode("pictures", {}, b"")

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
        """Start the process and wait until it is ready; runs in a thread.

        The first one starts from a new server process, which takes seconds, all others from a copy of it.
        """
        _FORKS.set_forkserver_preload([__name__])
        self.pipe, theirs = _FORKS.Pipe()
        self.process = _FORKS.Process(target=_serve, args=(theirs, self.size), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv_bytes()

    def ask(self, form: str, options: dict[str, Any], body: bytes) -> tuple[dict[str, Any], np.ndarray]:
        """Send a body and wait for its pixels; runs in a thread."""
        assert self.pipe is not None
        self.pipe.send_bytes(json.dumps([form, options]).encode())
        self.pipe.send_bytes(body)
        said = json.loads(self.pipe.recv_bytes())
        if "error" in said:
            raise ImageError(said["error"])
        pixels = np.frombuffer(bytearray(self.pipe.recv_bytes()), said["type"])
        return said["said"], pixels.reshape(-1, 3, self.size, self.size)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()


def _serve(pipe: Connection, size: int) -> None:
    """The main function of a decoding process: decode one body after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes the pipe
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default is to end the process
    _bound_memory()
    with suppress(EOFError, OSError):
        pipe.send_bytes(b"ready")
        while True:
            form, options = json.loads(pipe.recv_bytes())
            body = pipe.recv_bytes()
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
            try:
                said, pixels = FORMS[form](body, size, options)
                answer, content = {"said": said, "type": pixels.dtype.name}, pixels.tobytes()
            except ImageError as error:
                answer, content = {"error": str(error)}, b""
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send_bytes(json.dumps(answer).encode())
            if content:
                pipe.send_bytes(content)


def _bound_memory() -> None:
    """Let this process take `MEMORY` bytes more than now, where the system can say how much that is."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
