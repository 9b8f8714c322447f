"""`app`: open the dashboard."""

import os
import sys

import click

from dcp_core.files import SHIPPED


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[STREAMLIT OPTIONS]")
def command(port: int, options: tuple[str, ...]) -> None:
    """Open the dashboard in a browser. Ctrl-C stops it.

    All other options are passed to `streamlit run`:

    \b
      python -m dcp_core app --port 8600 --server.headless=true
      python -m dcp_core app --server.address=0.0.0.0
    """
    run = [sys.executable, "-m", "streamlit", "run", str(SHIPPED / "app.py"), f"--server.port={port}", *options]
    os.execv(
        sys.executable, run
    )  # Streamlit replaces this process, so that it gets signals and sets the exit status
