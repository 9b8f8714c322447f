"""Compare fp32, PTQ and QAT in one run: `python -m benchmarks.quantization [VICTIM ...] [--save]`.

Victims are measured on their whole test set. ResNet-18 is measured with random weights, because no trained one is
included: only its sizes and latencies are meaningful. All latencies are measured in turns. `--save` stores the rows of the
victims for the Quantized page.
"""

import argparse

import pandas as pd
import torch

from dcp_core.costs import quantized as measure
from dcp_core.data import synthetic
from dcp_core.data.datasets import load
from dcp_core.data.sources import SIGNS_TEST, SIGNS_TRAIN
from dcp_core.models import quantization, zoo
from dcp_core.models.architectures import build
from dcp_core.models.onnx_file import to_onnx
from dcp_core.models.onnx_model import OnnxClassifier

LATENCY_GOAL, SIZE_GOAL, ACCURACY_GOAL = 1 / 3, 0.3, 1.0


def resnet18() -> list[measure.VictimVersion]:
    """ResNet-18 with random weights: in eager torch, as an ONNX file, and after PTQ."""
    torch.manual_seed(0)
    network = build("resnet18", 16).eval()
    images = synthetic.signs(64, SIGNS_TRAIN)[0]
    prepared = quantization.prepare(network, images, 32, training=False)
    quantization.calibrate(prepared, images)
    files = {"fp32": to_onnx(network, 32)}
    files["ptq"] = to_onnx(quantization.convert(prepared), 32)
    size = 4 * sum(value.numel() for value in network.state_dict().values())
    found = [measure.VictimVersion("resnet18, random weights", "fp32", measure.EAGER, network, size)]
    return found + [
        measure.VictimVersion(
            found[0].name, precision, measure.RUNTIME, OnnxClassifier(content, 32, 16), len(content)
        )
        for precision, content in files.items()
    ]


def show(rows: pd.DataFrame, goals: bool) -> None:
    """Print the measurements, and their ratios to fp32 in eager torch and in ONNX Runtime."""
    eager, runtime = rows.iloc[0], rows[rows["engine"] == measure.RUNTIME].iloc[0]
    print(f"\n{eager['name']}: {eager['hardware']}")
    print(f"{'':22}{'accuracy':>9}{'agree':>8}{'l1':>8}{'kB':>8}{'size':>7}{'ms, 1':>9}{'ms, 64':>9}", end="")
    print(f"{'of eager fp32':>18}{'of ORT fp32':>16}")
    for row in rows.to_dict("records"):
        ratios = [f"{row[key] / other[key]:.3f}" for other in (eager, runtime) for key in ("ms_1", "ms_64")]
        print(
            f"{row['precision'] + ', ' + row['engine']:22}{row['accuracy']:9.2f}{row['agreement']:8.2f}"
            f"{row['l1']:8.4f}{row['bytes'] / 1000:8.0f}{row['bytes'] / eager['bytes']:7.3f}{row['ms_1']:9.3f}"
            f"{row['ms_64']:9.2f}{ratios[0] + ' / ' + ratios[1]:>18}{ratios[2] + ' / ' + ratios[3]:>16}"
        )
    for row in rows[rows["precision"] != "fp32"].to_dict("records") if goals else ():
        met = {
            f"latency at most {LATENCY_GOAL:.3f} of eager": max(row[key] / eager[key] for key in ("ms_1", "ms_64"))
            <= LATENCY_GOAL,
            f"accuracy within {ACCURACY_GOAL:g} point": not row["accuracy"] < eager["accuracy"] - ACCURACY_GOAL,
        }
        if "resnet18" in row["name"]:
            met[f"size at most {SIZE_GOAL:g}"] = row["bytes"] <= SIZE_GOAL * eager["bytes"]
        print(
            f"  {row['precision']}: " + "; ".join(f"{goal}: {'yes' if is_ else 'NO'}" for goal, is_ in met.items())
        )


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "victims", nargs="*", help="fp32 victims; by default all with quantized versions, and ResNet-18"
    )
    parser.add_argument(
        "--save", action="store_true", help="store the rows of the victims in precomputed/quantized.csv"
    )
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="time limit of the latency measurement of each victim"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    known = [name for name in zoo.names() if len(measure.family(name)) > 1 and not zoo.card(name).of]
    for victim in chosen.victims or known:
        card = zoo.card(victim)
        test = load(card.dataset, "test", size=card.size)
        rows = measure.side_by_side(
            measure.victim_versions(victim), test.images, test.labels, seconds=chosen.seconds
        )
        show(rows, goals="resnet20" in victim)
        if chosen.save:
            measure.save_measured(rows)
    if chosen.victims:
        return
    show(
        measure.side_by_side(resnet18(), synthetic.signs(64, SIGNS_TEST)[0], None, seconds=2 * chosen.seconds),
        True,
    )


if __name__ == "__main__":
    main()
