"""The command line: one file for each command, without logic of its own."""

import errno
from importlib import import_module
from typing import Any

import click

from dcp_core.files import explained

# A command's module is imported only when the command is used, so that `--help` does not import torch.
COMMANDS = {
    "app": "Open the dashboard.",
    "victims": "List the victims, add a classifier of yours, or remove one.",
    "fetch": "Unpack more included victims from a release archive.",
    "data": "List, download and describe data sets.",
    "train": "Train a victim of your own.",
    "quantize": "Make an eight-bit version of a victim (PTQ, QAT), or its ONNX file, which is faster on CPUs.",
    "export": "Write one ONNX file that contains a victim and a defense.",
    "auxiliary": "Train the second network that AM, MAD and GRAD² need for a victim.",
    "perturb": "Print a victim's answers to pictures, with and without a defense, as JSON or CSV.",
    "serve": "Start an HTTP prediction API with a defense in front of a victim.",
    "serve-file": "Start the same API for a file from `export --for server`. It needs no torch.",
    "keys": "Add, list and revoke keys of the prediction API.",
    "attack": "Steal a victim with one of the attacks, and measure the clone. An interrupted attack can be resumed.",
    "sweep": "Run a plan of many attacks on this machine or on a Ray cluster.",
    "track": "Mirror runs to MLflow.",
    "reproduce": "Repeat an experiment of the paper or of this repository, from its plan to its result rows.",
    "decide": "Recommend a defense, from measured results and your limits.",
    "audit": "Find out how well a victim can be stolen, within a time limit, and write one report.",
    "bench": "Measure the cost of every defense: latency, energy, memory and second networks.",
}


def module_of(command: str) -> str:
    """The module of a command."""
    return f"dcp_core.cli.{command.replace('-', '_')}"


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(module_of(cmd_name)).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        # The messages of this package's errors are meant for users: print the message without a traceback.
        try:
            return super().invoke(ctx)
        except (ValueError, FloatingPointError) as error:  # FloatingPointError: a training diverged
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has ended; click deals with it
                raise
            raise click.ClickException(explained(error)) from error


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """How well can your image classifier be stolen, and what does protecting it cost?

    \b
    Try it with your own picture:
      python -m dcp_core victims
      python -m dcp_core perturb cat.jpg --victim cifar10-resnet20 --defense dcp --beta 0.9

    Downloads, trained networks and runs are stored in the folder DCP_HOME (default ~/.dcp).
    """
