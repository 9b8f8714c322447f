"""`perturb`: print clean and defended answers to pictures."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from dcp_core.answers import Answers, answer, describe, with_posteriors
from dcp_core.cli.options import chosen_defense, defense_options
from dcp_core.data.archives import read_archive
from dcp_core.data.images import ImageError, read_image
from dcp_core.data.tensors import to_tensor
from dcp_core.models import zoo


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--victim", default="signs-resnet8", show_default=True, help="A name from `victims`.")
@defense_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of randomised defenses.")
@click.option("--format", "form", type=click.Choice(["json", "csv"]), default="json", show_default=True)
@click.option("--device", default="cpu", show_default=True)
def command(
    pictures: tuple[Path, ...],
    victim: str,
    defense: str,
    seed: int,
    form: str,
    device: str,
    **parameters: Any,
) -> None:
    """Print clean and defended posteriors for PICTURES (files, folders or zip archives).

    JSON output has one object for each picture. CSV output has one row for each picture, with a clean_ and a defended_
    column for each class. Files that cannot be read are listed on standard error; the other pictures are answered, and
    the exit status is 1.

    \b
      python -m dcp_core perturb sign.png --defense dcp --beta 0.9 --gamma 0.2
      python -m dcp_core perturb holiday.zip --defense rs --beta 0.64 --format csv > answers.csv
    """
    chosen = chosen_defense(defense, parameters)
    model = zoo.load(victim, device)
    names: list[str] = []
    tensors: list[torch.Tensor] = []
    broken = 0
    for name, picture in tqdm(_read(pictures), desc="reading", unit=" pictures", disable=None):
        if isinstance(picture, ImageError):
            click.echo(f"{name}: {picture}", err=True)
            broken += 1
            continue
        names.append(name)
        tensors.append(to_tensor(picture, model.card.size))
    if names:
        answers = answer(model, torch.stack(tensors), chosen, seed)
        (_print_json if form == "json" else _print_csv)(names, answers, model.card.classes)
    sys.exit(1 if broken else 0)


def _read(paths: tuple[Path, ...]) -> Iterator[tuple[str, Any]]:
    for path in paths:
        if path.is_dir():
            yield from _read(tuple(sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")))
        elif path.suffix.lower() == ".zip":
            try:
                yield from ((f"{path}/{name}", picture) for name, picture in read_archive(path))
            except ImageError as error:
                yield str(path), error
        else:
            try:
                yield str(path), read_image(path)
            except ImageError as error:
                yield str(path), error


def _print_json(names: list[str], answers: Answers, classes: tuple[str, ...]) -> None:
    rows = describe(answers, classes).to_dict("records")
    for row, name, clean, defended in zip(
        rows, names, answers.clean.tolist(), answers.defended.tolist(), strict=True
    ):
        row.update(
            picture=name,
            clean=dict(zip(classes, clean, strict=True)),
            defended=dict(zip(classes, defended, strict=True)),
        )
    click.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def _print_csv(names: list[str], answers: Answers, classes: tuple[str, ...]) -> None:
    table = describe(answers, classes)
    table.insert(0, "picture", names)
    table = with_posteriors(table, answers, classes)
    click.echo(table.to_csv(index=False), nl=False)
