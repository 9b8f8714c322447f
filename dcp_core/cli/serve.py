"""`serve`: an HTTP prediction API with a defense in front of a victim."""

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
def command(victim: str, defense: str, host: str, port: int, device: str, **parameters: Any) -> None:
    """Start an HTTP prediction API that sends every answer through the defense. Ctrl-C stops it.

    The API has no accounts and no encryption. To publish it, put a web server that has both in front of it.

    \b
      python -m dcp_core serve --victim signs-resnet8 --defense dcp --beta 0.9
      curl --data-binary @sign.jpg http://127.0.0.1:8000/predict
    """
    import uvicorn

    from dcp_core.api import application

    app = application(zoo.load(victim, device), chosen_defense(defense, parameters), device)
    click.echo(f"send a picture: curl --data-binary @picture.jpg http://{host}:{port}/predict")
    uvicorn.run(app, host=host, port=port, log_level="info")
