"""`app`: open the dashboard, optionally together with the prediction API."""

import json
import os
import sys
from typing import Any

import click

from dcp_core.cli.options import chosen_defense, defense_options
from dcp_core.cli.serving import keys_for, watch_options
from dcp_core.files import SHIPPED


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--serve", "victim", metavar="VICTIM", help="Also serve the prediction API of this victim, at /api.")
@defense_options
@click.option("--keys/--no-keys", default=True, show_default=True, help="Whether clients of the API need a key.")
@watch_options
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[STREAMLIT OPTIONS]")
def command(
    port: int, victim: str | None, defense: str, keys: bool, action: str, delta: float, watch_tau: float,
    uncertain: float, options: tuple[str, ...], **parameters: Any,
) -> None:  # fmt: skip
    """Open the dashboard in a browser. Ctrl-C stops it.

    With --serve, the same server answers the prediction API of `serve` at /api. All other options are passed to
    `streamlit run`:

    \b
      python -m dcp_core app --port 8600 --server.headless=true
      python -m dcp_core app --server.address=0.0.0.0
      python -m dcp_core app --serve signs-resnet8 --defense dcp --beta 0.9
    """
    script, settings = SHIPPED / "app_with_api.py", []
    if victim is not None:
        from dcp_core.models import zoo

        zoo.card(victim)
        chosen = chosen_defense(defense, parameters)
        keys_for("", keys)
        watch = {"action": action, "delta": delta, "tau": watch_tau, "uncertain": uncertain}
        wanted = {
            "victim": victim,
            "defense": defense,
            "parameters": chosen.values(),
            "keys": keys,
            "watch": watch,
        }
        settings = ["--", json.dumps(wanted)]
        click.echo(f"the prediction API: http://127.0.0.1:{port}/api/ (try it: /api/try)")
    run = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}", *options, *settings]
    os.execv(
        sys.executable, run
    )  # Streamlit replaces this process, so that it gets signals and sets the exit status
