"""Compare the fp32, PTQ and QAT versions of one victim: accuracy, size and latency, measured in one run."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dcp_core.costs.latency import FEWEST, Effort, in_turns, latency
from dcp_core.evaluation.metrics import error, fidelity, per_answer
from dcp_core.files import PRECOMPUTED, write_atomic
from dcp_core.models import zoo
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.onnx_model import OnnxClassifier
from dcp_core.provenance import hardware, today, versions

MEASURED = PRECOMPUTED / "quantized.csv"
EAGER, RUNTIME = "torch, eager", "ONNX Runtime"
BATCHES = (1, 64)
TEXTS = ("victim", "name", "precision", "engine", "hardware", "versions", "date")
NUMBERS = ("accuracy", "agreement", "l1", "bytes", "ms_1", "ms_64")


class MeasurementError(ValueError):
    """A file of measurements that is damaged or has impossible values. The message says why."""


@dataclass(frozen=True)
class VictimVersion:
    """One version of a victim in one engine.

    Args:
        precision: "fp32", "ptq" or "qat".
        engine: `EAGER` or `RUNTIME`.
        model: maps pixels (N, 3, H, W) in [0, 1] to logits (N, K).
        bytes: size on disk.
    """

    name: str
    precision: str
    engine: str
    model: nn.Module
    bytes: int


def family(victim: str) -> dict[str, str]:
    """Names of the versions of a victim, by precision: "fp32", and "ptq" and "qat" if they exist.

    Args:
        victim: name of any of the versions.

    Raises:
        VictimError: for an unknown victim or a damaged card.
    """
    base = zoo.card(victim).of or victim
    found = {card.precision: card.name for card in zoo.cards() if card.of == base}
    return {"fp32": base} | {precision: found[precision] for precision in zoo.PRECISIONS if precision in found}


def victim_versions(victim: str) -> list[VictimVersion]:
    """All versions of a victim that are on this machine, fp32 first, in eager torch if there is a torch network.

    Raises:
        VictimError: as `family` does, and for files that do not match their card.
    """
    versions_of = family(victim)
    base = versions_of["fp32"]
    found: list[VictimVersion] = []
    if zoo.card(base).has_weights:
        found.append(VictimVersion(base, "fp32", EAGER, zoo.network(base), zoo.size(base, zoo.WEIGHTS)))
    for precision, name in versions_of.items():
        card = zoo.card(name)
        if card.has_onnx:
            model = OnnxClassifier(zoo.onnx_file(name), card.size, len(card.classes))
            found.append(VictimVersion(name, precision, RUNTIME, model, zoo.size(name, zoo.ONNX)))
    return found


def side_by_side(
    compared: list[VictimVersion],
    images: Tensor,
    labels: Tensor | None,
    *,
    logits: Sequence[Tensor] | None = None,
    seconds: float = 20.0,
    progress: Callable[[float], None] = lambda fraction: None,
) -> pd.DataFrame:
    """Measure all versions on the same pictures, one row each.

    Args:
        compared: as `victim_versions` gives them.
        images: test pictures, uint8 (N, 3, H, W), at least 64.
        labels: labels of the test pictures, integers (N,).
        logits: stored logits of each version, (N, K) each. With them, the pictures are only used to measure the latency.
        seconds: about how long the latency measurement takes.
        progress: called with the share done, 0 to 1.

    Returns:
        the columns `TEXTS` and `NUMBERS`: `accuracy` (NaN without labels) and `agreement` with the first version, in
        percent; `l1`, the mean distance of the posteriors to the first version's, 0 to 2; `bytes`; `ms_1` and `ms_64`,
        the median latency of a batch of 1 and 64 in milliseconds, measured in turns with torch's number of threads.
    """
    if logits is None:
        logits = []
        for done, version in enumerate(compared):
            progress(0.5 * done / len(compared))
            logits.append(predict(version.model, images))
    milliseconds = latencies(
        [version.model for version in compared], images, seconds, lambda share: progress(0.5 + share / 2)
    )
    rows = []
    for position, (version, answer) in enumerate(zip(compared, logits, strict=True)):
        moved = per_answer(answer.softmax(-1), logits[0].softmax(-1)).l1.double().mean()
        rows.append(
            {
                "victim": compared[0].name,
                "name": version.name,
                "precision": version.precision,
                "engine": version.engine,
                "accuracy": math.nan if labels is None else round(100 - float(error(answer, labels)), 4),
                "agreement": round(float(fidelity(answer, logits[0])), 4),
                "l1": round(float(moved), 6),
                "bytes": version.bytes,
                **{f"ms_{batch}": round(milliseconds[batch][position], 4) for batch in BATCHES},
                "hardware": hardware(),
                "versions": json.dumps(versions()),
                "date": today(),
            }
        )
    return pd.DataFrame(rows)


def latencies(
    models: list[nn.Module], images: Tensor, seconds: float, progress: Callable[[float], None]
) -> dict[int, list[float]]:
    """Median latency of each model in milliseconds, by batch size. Models are timed in turns: load affects all equally."""
    found: dict[int, list[float]] = {}
    for place, batch in enumerate(BATCHES):
        pixels = to_pixels(images[:batch])
        works = {str(index): _work(model, pixels) for index, model in enumerate(models)}
        effort = Effort(FEWEST, precision=0, seconds=seconds / len(BATCHES), most=10_000)
        turns = in_turns(works, "0", effort, np.random.default_rng(0))
        while True:
            try:
                progress((place + next(turns).fraction) / len(BATCHES))
            except StopIteration as end:
                rounds = end.value
                break
        found[batch] = [latency(rounds, name, "0").milliseconds.median for name in works]
    return found


def _work(model: nn.Module, pixels: Tensor) -> Callable[[], Tensor]:
    # Channels-last is the fastest layout of eager torch; ONNX Runtime needs the default layout.
    layout = torch.contiguous_format if isinstance(model, OnnxClassifier) else torch.channels_last
    given = pixels.contiguous(memory_format=layout)
    model.to(memory_format=layout)  # type: ignore[call-overload]

    def answer() -> Tensor:
        with torch.inference_mode():
            return model(given)

    return answer


def load_measured(path: Path = MEASURED) -> pd.DataFrame:
    """Read stored rows of `side_by_side`; empty if there is no file.

    Raises:
        MeasurementError: for a file with missing columns or impossible values.
    """
    if not path.exists():
        return pd.DataFrame(columns=[*TEXTS, *NUMBERS])
    try:
        rows = pd.read_csv(path)
        rows[list(NUMBERS)] = rows[list(NUMBERS)].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise MeasurementError(f"{path.name} cannot be read: {error}") from error
    if missing := [name for name in TEXTS if name not in rows or rows[name].isna().any()]:
        raise MeasurementError(f"{path.name}: '{missing[0]}' must be given in every row")
    shares = rows[["accuracy", "agreement"]].to_numpy()
    if not (((shares >= 0) & (shares <= 100)).all() and rows["l1"].between(0, 2).all()):
        raise MeasurementError(f"{path.name}: a percentage or an l1 distance is out of its range")
    if not (rows[["bytes", "ms_1", "ms_64"]] > 0).all(axis=None):
        raise MeasurementError(f"{path.name}: sizes and latencies must be above 0")
    return rows


def save_measured(rows: pd.DataFrame, path: Path = MEASURED) -> None:
    """Store rows of `side_by_side`. They replace stored rows of the same victims."""
    known = load_measured(path)
    kept = known[~known["victim"].isin(rows["victim"])]
    every = rows if kept.empty else pd.concat([kept, rows])
    text = every.astype({"bytes": int}).to_csv(index=False, lineterminator="\n")
    write_atomic(path, lambda file: file.write(text.encode()))


def stored_drift(victim: str) -> dict[str, Tensor]:
    """l1 distance of each test answer to that of the fp32 version, (N,), 0 to 2, by precision, from stored answers.

    Raises:
        VictimError: as `family` does, and if the stored answers are missing.
    """
    versions_of = family(victim)
    clean = zoo.test_answers(versions_of["fp32"])[0].softmax(-1)
    return {
        precision: per_answer(zoo.test_answers(name)[0].softmax(-1), clean).l1
        for precision, name in versions_of.items()
        if precision != "fp32"
    }
