"""Export a victim with a defense as a folder for NVIDIA Triton, or for a web page that answers in the browser.

Both contain the ONNX file of `export.py` with the defense's parameters as constants: Triton would require them as inputs,
and ONNX Runtime Web ignores the defaults of inputs.
"""

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from dcp_core.defenses import Defense
from dcp_core.files import write_atomic
from dcp_core.models import zoo
from dcp_core.models.export import ExportError, Report, export
from dcp_core.models.onnx_model import open_session
from dcp_core.models.onnx_session import fixed_batch

ORT_WEB = "1.30.0"  # version of onnxruntime-web that the web page was tested with
BATCH, DELAY_US = 64, 2000  # largest batch of Triton in pictures; longest wait to fill it in microseconds


def for_triton(victim: str, defense: Defense) -> tuple[dict[str, bytes], Report]:
    """A model repository for the Triton Inference Server, with one model and dynamic batching.

    Its input is `pixels` (3, S, S) in [0, 1], its output `posterior` (K,); Triton adds the batch dimension. Classification
    requests get the names of the classes.

    Returns:
        Contents of files by their paths in the repository, and the check of the ONNX file.

    Raises:
        VictimError, ExportError: as `export.export`.
    """
    card = zoo.card(victim)
    content, report = export(victim, defense, baked=True)
    if fixed_batch(open_session(content)) is not None:
        raise ExportError(f"{victim} takes only a fixed number of pictures at once, which Triton cannot batch")
    name = f"{victim}-{defense.name}"
    labels = "".join(f"{' '.join(label.split())}\n" for label in card.classes)
    config = f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {BATCH}
input [ {{ name: "pixels" data_type: TYPE_FP32 dims: [ 3, {card.size}, {card.size} ] }} ]
output [ {{ name: "posterior" data_type: TYPE_FP32 dims: [ {len(card.classes)} ] label_filename: "labels.txt" }} ]
dynamic_batching {{ max_queue_delay_microseconds: {DELAY_US} }}
"""
    parts = {"config.pbtxt": config.encode(), "labels.txt": labels.encode(), "1/model.onnx": content}
    return {f"{name}/{path}": part for path, part in parts.items()}, report


def for_web(victim: str, defense: Defense) -> tuple[dict[str, bytes], Report]:
    """A web page that answers in the browser with ONNX Runtime Web; pictures never leave the machine.

    The folder needs the package onnxruntime-web beside the page (`npm install`, once) and any server of static files. Then
    it works offline.

    Returns:
        Contents of files by their names, and the check of the ONNX file.

    Raises:
        VictimError, ExportError: as `export.export`.
    """
    card = zoo.card(victim)
    content, report = export(victim, defense, baked=True)
    package = {"private": True, "dependencies": {"onnxruntime-web": ORT_WEB}}
    return {
        "model.onnx": content,
        "index.html": _page(card, defense).encode(),
        "package.json": f"{json.dumps(package, indent=2)}\n".encode(),
    }, report


def write_bundle(parts: dict[str, bytes], folder: Path) -> None:
    """Write the files of a bundle. `folder` must be new or empty, so that no file of another model remains in it.

    Raises:
        ExportError: if the folder has other content.
        OSError: if a file cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty: choose another folder with --to, or delete it")
    for path, part in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / path, lambda file, part=part: file.write(part))  # type: ignore[misc]


def _page(card: zoo.Card, defense: Defense) -> str:
    template = Template(files("dcp_core.models").joinpath("web_page.html").read_text("utf-8"))
    classes = json.dumps(list(card.classes)).replace("<", "\\u003c")  # a class name must not end the script
    return template.substitute(title=escape(f"{card.title}: {defense.title}"), classes=classes, size=card.size)
