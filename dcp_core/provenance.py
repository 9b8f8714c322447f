"""Software versions and hardware with which a result was computed."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from dcp_core.precision import instruction_set


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result; "absent" if not installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("torchvision", "numpy", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def hardware(device: str | torch.device = "cpu") -> str:
    """One line on the machine a computation ran on: processor, instruction set, threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()} ({platform.machine()}, {instruction_set()}), {threads} thread{'s' * (threads > 1)}"


def hardware_words(stored: str) -> str:
    """A stored line of `hardware` for a reader: earlier versions wrote "1 threads"."""
    return stored.removesuffix("1 threads") + "1 thread" if stored.endswith(" 1 threads") else stored


def today() -> str:
    """Today's date (UTC) as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "CPU"
