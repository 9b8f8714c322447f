"""A running server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from dcp_core.api.connections import protocol


@contextmanager
def running(app: Starlette, **options: float) -> Iterator[str]:
    """The address of a server on this machine; `options` are those of `protocol`."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, http=protocol(**options))  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
