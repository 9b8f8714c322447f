"""`serve`: an HTTP prediction API with a defense in front of a victim."""

import ipaddress
import logging
from typing import Any

import click

from dcp_core.cli.options import chosen_defense, defense_options
from dcp_core.models import zoo


@click.command()
@click.option("--victim", default="signs-resnet8", show_default=True, help="A name from `victims`.")
@defense_options
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Use 0.0.0.0 to allow requests from other machines."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--keys/--no-keys",
    default=None,
    help="Whether clients need a key. The default is yes, except on 127.0.0.1 and ::1.",
)
@click.option(
    "--watch", type=click.Choice(["tell", "delay", "refuse"]), default="tell", show_default=True,
    help="What to do about clients whose questions look like an attack.",
)  # fmt: skip
@click.option(
    "--watch-below",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="W of PRADA that is an alarm.",
)
@click.option(
    "--watch-tau", type=click.FloatRange(0, 1), default=0.7, show_default=True,
    help="Answers with a smaller largest posterior count as uncertain.",
)  # fmt: skip
@click.option(
    "--watch-uncertain", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="A larger share of uncertain answers is an alarm; 1 for never.",
)  # fmt: skip
@click.option(
    "--connections", type=click.IntRange(min=2), default=500, show_default=True, help="Most connections."
)
def command(
    victim: str, defense: str, host: str, port: int, device: str, keys: bool | None, watch: str, watch_below: float,
    watch_tau: float, watch_uncertain: float, connections: int, **parameters: Any,
) -> None:  # fmt: skip
    """Start an HTTP prediction API that sends every answer through the defense. Ctrl-C stops it.

    The API has no encryption. To publish it, put a web server with TLS in front of it.

    \b
      python -m dcp_core serve --victim signs-resnet8 --defense dcp --beta 0.9
      curl --data-binary @sign.jpg http://127.0.0.1:8000/predict
      python -m dcp_core keys add alice
      python -m dcp_core serve --host 0.0.0.0
      curl -H "Authorization: Bearer KEY" --data-binary @sign.jpg http://SERVER:8000/predict
    """
    import uvicorn

    from dcp_core.api import application
    from dcp_core.api.connections import protocol
    from dcp_core.api.keys import Keys
    from dcp_core.api.watch import Watch

    wanted = Keys() if (not _loopback(host) if keys is None else keys) else None
    try:
        if wanted is not None and not any(key.revoked is None for key in wanted.all()):
            raise click.ClickException(
                "There is no valid key: add one with `dcp keys add NAME`, or use --no-keys."
            )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("dcp.api").setLevel(logging.INFO)
    app = application(
        zoo.load(victim, device), chosen_defense(defense, parameters), device,
        keys=wanted, watch=Watch(watch, watch_below, watch_tau, watch_uncertain),  # type: ignore[arg-type]
    )  # fmt: skip
    click.echo(f"send a picture: curl --data-binary @picture.jpg http://{host}:{port}/predict")
    # Access lines are written by the application, with the id of the request. WebSockets are not used.
    uvicorn.run(
        app, host=host, port=port, log_level="info", access_log=False, ws="none", http=protocol(connections),
        server_header=False, timeout_graceful_shutdown=10,
    )  # fmt: skip


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
