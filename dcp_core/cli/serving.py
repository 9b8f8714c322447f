"""What all commands that start the prediction API use: options, the check of keys, and the server."""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any

import click

from dcp_core.api.connections import CONNECTIONS, protocol
from dcp_core.api.keys import Keys
from dcp_core.api.watch import DELTA, TAU, UNCERTAIN

Command = Callable[..., Any]
_WATCHING = (
    click.option(
        "--watch", "action", type=click.Choice(["tell", "delay", "refuse"]), default="tell", show_default=True,
        help="What to do about clients whose queries look like an attack: only tell the owner, delay, or refuse.",
    ),
    click.option(
        "--watch-below", "delta", type=click.FloatRange(0, 1), default=DELTA, show_default=True,
        help="PRADA's statistic W, 0 to 1, below which there is an alarm. W is low for attacks.",
    ),
    click.option(
        "--watch-tau", "watch_tau", type=click.FloatRange(0, 1), default=TAU, show_default=True,
        help="Answers whose top posterior is below this count as uncertain.",
    ),
    click.option(
        "--watch-uncertain", "uncertain", type=click.FloatRange(0, 1), default=UNCERTAIN, show_default=True,
        help="Share of uncertain answers above which there is an alarm; 1 turns this alarm off.",
    ),
)  # fmt: skip
_PLACE = (
    click.option(
        "--host", default="127.0.0.1", show_default=True, help="Use 0.0.0.0 to allow requests from other machines."
    ),
    click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True),
    click.option(
        "--keys/--no-keys", default=None,
        help="Whether clients need a key. The default is yes, except on 127.0.0.1 and ::1.",
    ),
    click.option(
        "--connections", type=click.IntRange(min=2), default=CONNECTIONS, show_default=True,
        help="Largest number of open connections.",
    ),
)  # fmt: skip


def watch_options(function: Command) -> Command:
    """Add the options of watching: `action`, `delta`, `watch_tau` and `uncertain`."""
    return _add(_WATCHING, function)


def server_options(function: Command) -> Command:
    """Add the options of a server of its own: `host`, `port`, `keys` and `connections`."""
    return _add(_PLACE, function)


def _add(options: tuple[Callable[[Command], Command], ...], function: Command) -> Command:
    for option in reversed(options):
        function = option(function)
    return function


def keys_for(host: str, wanted: bool | None) -> Keys | None:
    """The file of keys, or None if nobody needs a key; see `--keys`.

    Raises:
        click.ClickException: if keys are needed but there is no valid one.
        KeyFileError: if their file is damaged.
    """
    if not (not _loopback(host) if wanted is None else wanted):
        return None
    keys = Keys()
    if not any(key.revoked is None for key in keys.all()):
        raise click.ClickException("There is no valid key: add one with `dcp keys add NAME`, or use --no-keys.")
    return keys


def run_server(app: Any, host: str, port: int, connections: int) -> None:
    """Serve the API until Ctrl-C."""
    import uvicorn

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("dcp.api").setLevel(logging.INFO)
    say_where(host, port)
    # Access lines are written by the application, with the id of the request. WebSockets are not used.
    uvicorn.run(
        app, host=host, port=port, log_level="info", access_log=False, ws="none", http=protocol(connections),
        server_header=False, timeout_graceful_shutdown=10,
    )  # fmt: skip


def say_where(host: str, port: int) -> None:
    """Say how the API is asked."""
    click.echo(f"send a picture: curl --data-binary @picture.jpg http://{host}:{port}/predict")
    click.echo(f"try it in a browser: http://{host}:{port}/try")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
