"""Decoding in processes that can be killed."""

import os
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import anyio
import numpy as np
import pytest

from benchmarks.hostile_pictures import empty_blocks, noise, png, saved, zipped
from dcp_core.api import decoding
from dcp_core.api.decoding import Decoders
from dcp_core.data.images import read_image
from dcp_core.data.structure import ImageError
from dcp_core.data.tensors import to_tensor

serve = decoding._serve


def with_decoders(work: Callable[[Decoders], Awaitable[None]]) -> None:
    async def main() -> None:
        decoders = Decoders(8)
        try:
            await work(decoders)
        finally:
            decoders.close()

    anyio.run(main)


def test_a_decoder_gives_the_same_pixels_as_the_library() -> None:
    async def work(decoders: Decoders) -> None:
        said, pixels = await decoders.decode("pictures", {}, zipped(picture, 2))
        assert said == {"pictures": ["000", "001"]}
        assert all(np.array_equal(each, to_tensor(read_image(picture), 8)) for each in pixels)

    picture = saved(noise(20, 30), "PNG")
    with_decoders(work)


def serve_late(pipe: Connection, size: int) -> None:
    """A process that is long in starting, as on a busy machine."""
    time.sleep(5)
    serve(pipe, size)


def test_the_time_in_which_a_process_starts_is_not_the_request_s(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(decoders: Decoders) -> None:
        _, pixels = await decoders.decode("pictures", {}, saved(noise(20, 30), "PNG"))
        assert pixels.shape == (1, 3, 8, 8)

    monkeypatch.setattr(decoding, "_serve", serve_late)
    monkeypatch.setattr(decoding, "PATIENCE", 3.0)
    with_decoders(work)


def test_what_no_count_foresees_is_ended_by_the_kernel_and_the_next_request_is_answered() -> None:
    async def work(decoders: Decoders) -> None:
        with pytest.raises(ImageError, match="takes too long"):
            await decoders.decode("pictures", {}, slow)
        _, pixels = await decoders.decode("pictures", {}, saved(noise(20, 30), "PNG"))
        assert pixels.shape == (1, 3, 8, 8)

    slow = png((1, 1), 8, 0, empty_blocks(18_000_000))  # 1.3 s of building Huffman tables
    with_decoders(work)


def test_a_request_that_is_given_up_stops_working() -> None:
    async def work(decoders: Decoders) -> None:
        await decoders.prepare()
        process = decoders.idle[0].process
        assert process is not None
        with anyio.move_on_after(0.05):
            await decoders.decode("pictures", {}, slow)
        while process.is_alive():
            await anyio.sleep(0.01)
        assert not decoders.idle

    slow = png((1, 1), 8, 0, empty_blocks(18_000_000))
    with_decoders(work)


def test_a_process_may_take_only_so_much_memory() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        decoding._bound_memory()
        try:
            bytearray(4 * decoding.MEMORY)
            os.write(write, b"held")
        except MemoryError:
            os.write(write, b"refused")
        os._exit(0)
    assert os.read(read, 10) == b"refused"
    os.waitpid(pid, 0)


def test_a_process_ends_when_its_server_is_gone() -> None:
    async def work(decoders: Decoders) -> None:
        await decoders.prepare()
        decoder = decoders.idle.pop()
        assert decoder.process is not None
        assert decoder.pipe is not None
        decoder.pipe.close()
        end = time.monotonic() + 20
        while decoder.process.is_alive() and time.monotonic() < end:
            await anyio.sleep(0.01)
        assert not decoder.process.is_alive()

    with_decoders(work)
