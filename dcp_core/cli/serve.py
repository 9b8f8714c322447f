"""`serve`: an HTTP prediction API with a defense in front of a victim, in one process or in replicas on Ray."""

import os
import re
from typing import Any

import click

from dcp_core.cli.options import check_ray, chosen_defense, defense_options
from dcp_core.cli.serving import keys_for, run_server, say_where, server_options, watch_options
from dcp_core.models import zoo


def _replicas(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int]:
    """Smallest and largest number of replicas, from "2" or "1-4"."""
    if text is None:
        return 1, os.cpu_count() or 1
    found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise click.BadParameter("a number such as 2, or a range such as 1-4")
    return least, most


@click.command()
@click.option("--victim", default="signs-resnet8", show_default=True, help="A name from `victims`.")
@defense_options
@server_options
@watch_options
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--ray", "cluster", is_flag=False, flag_value="", metavar="[ADDRESS]",
    help="Serve with several replicas on Ray: on this machine, or on a cluster, for example auto or HOST:6379.",
)  # fmt: skip
@click.option(
    "--replicas", callback=_replicas, metavar="N or MIN-MAX",
    help="With --ray: number of replicas, or a range within which it follows the number of requests. "
    "Default: 1 to the number of cores.",
)  # fmt: skip
def command(
    victim: str, defense: str, host: str, port: int, keys: bool | None, connections: int, action: Any, delta: float,
    watch_tau: float, uncertain: float, device: str, cluster: str | None, replicas: tuple[int, int], **parameters: Any,
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
    needed, chosen = keys_for(host, keys), chosen_defense(defense, parameters)
    watch = {"action": action, "delta": delta, "tau": watch_tau, "uncertain": uncertain}
    if cluster is not None:
        check_ray()
        from dcp_core.api import replicas as on_ray

        zoo.card(victim)
        wanted = on_ray.Wanted(
            victim, defense, chosen.values(), device, needed is not None, watch, on_ray.fingerprint()
        )
        click.echo("starting Ray and the replicas; this takes some seconds")
        on_ray.deploy(wanted, cluster or None, host, port, *replicas)
        say_where(host, port)
        on_ray.wait()
        return
    from dcp_core.api import application
    from dcp_core.api.watch import Watch

    app = application(zoo.load(victim, device), chosen, device, keys=needed, watch=Watch(**watch))
    run_server(app, host, port, connections)
