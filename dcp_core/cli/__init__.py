"""The command line, one file a command: a thin skin over `dcp_core`."""

from importlib import import_module
from typing import Any

import click

# Loaded when asked for, so that `--help` does not wait for torch.
COMMANDS = {
    "app": "Open the dashboard.",
    "victims": "List the victims: the shipped ones and your own.",
    "fetch": "Unpack the other shipped victims from a release archive.",
    "data": "List, download and describe data sets.",
    "train": "Train a victim of your own.",
    "quantize": "Make an eight-bit victim (PTQ, QAT), or the ONNX file that answers faster.",
    "export": "Write one ONNX file with the defense inside.",
    "auxiliary": "Train the second network that AM, MAD and GRAD² need for a victim.",
    "perturb": "Answer pictures with and without a defense, as JSON or CSV.",
    "serve": "Answer pictures over HTTP, with a defense in front of a victim.",
    "attack": "Steal a victim: KnockoffNets, DFME, MAZE; resumable.",
    "sweep": "Run a plan of many attacks here or on a Ray cluster.",
    "reproduce": "Repeat an experiment of the paper or of this repository, from its plan to its rows.",
    "decide": "Which defense to deploy, from what was measured.",
    "bench": "Measure what every defense costs: latency, energy, hidden costs.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"dcp_core.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        # Our errors are written for people: show the sentence, not a traceback.
        try:
            return super().invoke(ctx)
        except (ValueError, FloatingPointError) as error:  # the latter: a training that diverged
            raise click.ClickException(str(error)) from error


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """How well can your image classifier be stolen, and what does protecting it cost?

    \b
    Try it on a picture of your own:
      python -m dcp_core victims
      python -m dcp_core perturb cat.jpg --victim cifar10-resnet20 --defense dcp --beta 0.9

    Everything downloaded or trained is kept below DCP_HOME (default ~/.dcp).
    """
