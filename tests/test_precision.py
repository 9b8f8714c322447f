"""The number format of training: found out, overruled, recorded."""

import pytest
import torch

from dcp_core import precision
from dcp_core.precision import PrecisionError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine that computes in bf16, or one that does not."""
    monkeypatch.setattr(precision, "_computes_bf16", lambda kind: request.param)


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        (True, None, "bf16"),
        (True, "bf16", "bf16"),
        (True, "fp32", "fp32"),
        (False, None, "fp32"),
        (False, "fp32", "fp32"),
    ],
    indirect=["machine"],
)
def test_the_machine_decides_and_the_variable_overrules(
    machine: None, asked: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is None:
        monkeypatch.delenv(precision.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(precision.VARIABLE, asked)
    assert precision.precision("cpu") == expected
    with precision.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if expected == "bf16" else torch.float32)


@pytest.mark.parametrize(
    ("machine", "asked", "words"),
    [
        (False, "bf16", "does not compute in bfloat16: unset DCP_PRECISION, or set it to fp32"),
        (False, "fp16", "DCP_PRECISION=fp16 is not a known precision"),
        (True, "half", "DCP_PRECISION=half is not a known precision"),
    ],
    indirect=["machine"],
)
def test_what_the_machine_lacks_or_nobody_knows_is_refused(
    machine: None, asked: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(precision.VARIABLE, asked)
    with pytest.raises(PrecisionError, match=words):
        precision.precision("cpu")
