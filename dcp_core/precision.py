"""The number format of training: float32, or bfloat16 if the processor supports it.

With bfloat16, convolutions and matrix products are computed in bfloat16 (automatic mixed precision). Weights, their
updates and losses stay in float32. On a CPU with bfloat16 instructions, this is about twice as fast.

The environment variable `DCP_PRECISION` (`fp32` or `bf16`) overrides the automatic choice.
"""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch

VARIABLE = "DCP_PRECISION"
Precision = Literal["fp32", "bf16"]
_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # in /proc/cpuinfo; the first two are of x86, the last of Arm


class PrecisionError(ValueError):
    """An unknown precision, or one that this machine does not support. The message says what to do."""


def precision(device: torch.device | str) -> Precision:
    """The precision of training on `device`.

    Raises:
        PrecisionError: if the precision in `DCP_PRECISION` is unknown, or not supported by this machine.
    """
    asked, able = os.environ.get(VARIABLE, ""), _computes_bf16(torch.device(device).type)
    if asked not in ("", "fp32", "bf16"):
        raise PrecisionError(f"{VARIABLE}={asked} is not a known precision: set it to fp32 or bf16, or unset it")
    if asked == "bf16" and not able:
        raise PrecisionError(
            f"{VARIABLE}=bf16, but this machine's {torch.device(device).type} does not compute in bfloat16: "
            f"unset {VARIABLE}, or set it to fp32"
        )
    return "bf16" if able and asked != "fp32" else "fp32"


def autocast(device: torch.device) -> torch.autocast:
    """A context for the forward passes of training on `device`. It can be entered any number of times.

    Raises:
        PrecisionError: as `precision`.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == "bf16")


def instruction_set() -> str:
    """The most capable vector instructions that torch uses on this CPU, such as "AVX512 with bf16"."""
    found = torch.backends.cpu.get_cpu_capability()
    return f"{found} with bf16" if _computes_bf16("cpu") else found


@cache
def _computes_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not torch.backends.mkldnn.is_available() or platform.system() != "Linux":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return any(flag in flags for flag in _FLAGS)
