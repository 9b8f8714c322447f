"""`serve`: an HTTP prediction API with a defense in front of a victim."""

from typing import Any

import click

from dcp_core.cli.options import chosen_defense, defense_options
from dcp_core.cli.serving import keys_for, run_server, server_options, watch_options
from dcp_core.models import zoo


@click.command()
@click.option("--victim", default="signs-resnet8", show_default=True, help="A name from `victims`.")
@defense_options
@server_options
@watch_options
@click.option("--device", default="cpu", show_default=True)
def command(
    victim: str, defense: str, host: str, port: int, keys: bool | None, connections: int, action: Any, delta: float,
    watch_tau: float, uncertain: float, device: str, **parameters: Any,
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
    from dcp_core.api import application
    from dcp_core.api.watch import Watch

    needed = keys_for(host, keys)
    watch = Watch(action, delta, watch_tau, uncertain)
    app = application(
        zoo.load(victim, device), chosen_defense(defense, parameters), device, keys=needed, watch=watch
    )
    run_server(app, host, port, connections)
