"""In which number format networks are trained: float32, or bfloat16 where the processor computes in it.

Weights, their updates and losses stay float32 everywhere; bfloat16 is what convolutions and products are computed in
(automatic mixed precision). On a CPU with such instructions that is about twice as fast.

`DCP_PRECISION=fp32` or `bf16` overrules what is found out about the machine.
"""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch

VARIABLE = "DCP_PRECISION"
Precision = Literal["fp32", "bf16"]
_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of x86 (two) and of Arm


class PrecisionError(ValueError):
    """A precision that there is not, or not on this machine; the message says what to do."""


def precision(device: torch.device | str) -> Precision:
    """What training on `device` computes in.

    Raises:
        PrecisionError: if `DCP_PRECISION` names a precision that is unknown, or one that this machine lacks.
    """
    asked, able = os.environ.get(VARIABLE, ""), _computes_bf16(torch.device(device).type)
    if asked not in ("", "fp32", "bf16"):
        raise PrecisionError(f"{VARIABLE}={asked} is no precision: set it to fp32 or bf16, or unset it")
    if asked == "bf16" and not able:
        raise PrecisionError(
            f"{VARIABLE}=bf16, but this machine's {torch.device(device).type} does not compute in bfloat16: "
            f"unset {VARIABLE}, or set it to fp32"
        )
    return "bf16" if able and asked != "fp32" else "fp32"


def autocast(device: torch.device) -> torch.autocast:
    """A context, to be entered any number of times, in which the forward passes of training run on `device`.

    Raises:
        PrecisionError: as `precision`.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == "bf16")


def instruction_set() -> str:
    """The widest vector instructions that torch uses on this CPU, such as "AVX512 with bf16"."""
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
