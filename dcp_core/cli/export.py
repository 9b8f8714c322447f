"""`export`: write a victim with a defense as an ONNX file, a Triton model repository or a web page."""

from pathlib import Path
from typing import Any

import click

from dcp_core.cli.options import chosen_defense, defense_options
from dcp_core.files import write_atomic
from dcp_core.models import zoo

NEXT = {
    "triton": "serve it: tritonserver --model-repository {folder}",
    "web": "open it: cd {folder} && npm install && python -m http.server, then http://localhost:8000",
}


@click.command()
@click.option(
    "--victim", default="signs-resnet8", show_default=True, help="A name from `victims`, fp32 or eight-bit."
)
@defense_options
@click.option(
    "--baked",
    is_flag=True,
    help="Store the parameters as constants. By default they are optional inputs of the file. All other uses than onnx "
    "have constants.",
)
@click.option(
    "--for",
    "use",
    type=click.Choice(["onnx", "server", "triton", "web"]),
    default="onnx",
    show_default=True,
    help="onnx: one file. server: one file for `serve-file`, which also has the clean posteriors. triton: a model "
    "repository for the Triton Inference Server. web: a web page that answers in the browser.",
)
@click.option(
    "--to",
    "path",
    type=click.Path(path_type=Path),
    help="Output file, or new folder. Default: VICTIM-DEFENSE.onnx, or VICTIM-DEFENSE-triton or -web.",
)
def command(victim: str, defense: str, baked: bool, use: str, path: Path | None, **parameters: Any) -> None:
    """Write one ONNX file that contains victim and defense. The input is pixels (N, 3, S, S) in [0, 1], the output is
    clean or defended posteriors (N, K).

    Before it is written, its answers to 500 pictures are compared with those of this package. A short script is written
    beside it, which runs the file with ONNX Runtime, NumPy and Pillow only.

    With `--for triton` or `--for web`, a folder is written that contains this file.

    \b
      python -m dcp_core export --victim signs-resnet8-ptq --defense dcp --beta 0.9
      python -m dcp_core export --victim cifar10-resnet20 --defense none --baked --to classifier.onnx
      python -m dcp_core export --victim signs-resnet8 --defense dcp --for triton --to models
    """
    from dcp_core.models import bundles, export

    chosen = chosen_defense(defense, parameters)
    if use in ("triton", "web"):
        folder = path or Path(f"{victim}-{defense}-{use}")
        parts, report = (bundles.for_triton if use == "triton" else bundles.for_web)(victim, chosen)
        bundles.write_bundle(parts, folder)
        click.echo(f"{folder}: {', '.join(parts)}")
        click.echo(report.words())
        click.echo(NEXT[use].format(folder=folder))
        return
    server = use == "server"
    path = path or Path(f"{victim}-{defense}{'-server' if server else ''}.onnx")
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder: give --to a file, such as {path / 'classifier.onnx'}")
    content, report = export.export(victim, chosen, baked=baked or server, clean=server)
    write_atomic(path, lambda file: file.write(content))
    if server:
        click.echo(f"{path}: {report.bytes:,} bytes. Keep it on your server: it also has the clean answers.")
        click.echo(report.words())
        click.echo(f"serve it: python -m dcp_core serve-file {path}")
        return
    text = export.script(zoo.card(victim), path.name, chosen, baked=baked)
    write_atomic(path.with_suffix(".py"), lambda file: file.write(text.encode()))
    click.echo(f"{path}: {report.bytes:,} bytes; the defense adds {report.added_bytes:,} of them")
    click.echo(report.words())
    click.echo(f"run it: python {path.with_suffix('.py')} picture.jpg")
