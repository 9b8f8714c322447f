"""`serve-file`: the prediction API for an exported file, without torch."""

from pathlib import Path
from typing import Any

import click

from dcp_core.cli.serving import keys_for, run_server, server_options, watch_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@server_options
@watch_options
def command(
    file: Path, host: str, port: int, keys: bool | None, connections: int, action: Any, delta: float,
    watch_tau: float, uncertain: float,
) -> None:  # fmt: skip
    """Start the same HTTP API as `serve` for a FILE that `export --for server` wrote.

    ONNX Runtime answers. torch is neither imported nor needed: requirements-serve.txt lists all packages.

    \b
      python -m dcp_core export --victim signs-resnet8 --defense dcp --for server --to signs.onnx
      python -m dcp_core serve-file signs.onnx
    """
    from dcp_core.api import file_application
    from dcp_core.api.watch import Watch

    needed = keys_for(host, keys)
    app = file_application(file, keys=needed, watch=Watch(action, delta, watch_tau, uncertain))
    run_server(app, host, port, connections)
