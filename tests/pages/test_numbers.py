"""Numbers as a reader sees them: without rounding noise, with units that agree with them."""

import re
from pathlib import Path

import torch
from test_pages import SIGNS, open_page, texts

from dcp_core.evaluation.metrics import per_answer


def test_a_dragged_slider_gives_a_number_of_few_digits(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, closer="What the thief sees")
    app.slider(key="dcp_beta").set_value(0.7999999999999999).run()
    assert "--beta 0.8" in app.main.code[1].value
    assert not re.search(r"\d\.\d{12}", texts(app))


def test_the_entropy_of_a_certain_answer_is_zero_without_a_sign() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0], [1.0 + 1e-6, 0.0, 0.0]])
    assert [f"{value:.2f}" for value in per_answer(certain, certain).entropy.tolist()] == ["0.00", "0.00"]


def test_no_limit_reads_one_points(home: Path) -> None:
    units = {("tradeoffs", "increase"): "percentage points", ("decide", "d_increase"): "wrong answers in 100"}
    for (page, key), unit in units.items():
        control = open_page(page).slider(key=key)
        assert control.value == 1.0
        assert control.proto.format == "%g"
        assert unit in control.label
