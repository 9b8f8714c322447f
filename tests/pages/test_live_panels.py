"""What the live pictures are sent, which the browser then draws."""

import pandas as pd
import pytest

from dcp_core import Deception
from dcp_core.results.overview import CLONE, LABELS, VICTIM
from dcp_core.ui import thief_panel

ERRORS = {VICTIM: 10.0, CLONE: 30.0, LABELS: 39.0}


def line(*errors: float) -> pd.DataFrame:
    return pd.DataFrame({"strength": [0.0, 1.0], "l1": [0.0, 0.4], "adversary_error": errors})


def test_the_best_thief_has_a_line_and_a_point_of_its_own_beside_the_one_who_trusts_the_answers() -> None:
    defense = Deception(beta=0.5)
    panel = thief_panel(defense, {defense: line(30, 50)}, line(30, 34), ERRORS, "slider", "alt")
    named = {each["name"]: each["points"] for each in panel["lines"]}
    assert named["DCP, thief who trusts the answers"] == [[0, 30], [0.4, 50]]
    assert named["DCP, best thief"] == [[0, 30], [0.4, 34]]
    assert named["clone from labels only"] == [[0, 39], [0.4, 39]]
    assert panel["points"]["now"] == [pytest.approx([0.2, 0.2]), pytest.approx([40, 32])]
    assert panel["points"]["tables"] == {"slider": [[[0, 0], [30, 30]], [[0.4, 0.4], [50, 34]]]}


def test_no_second_line_is_drawn_where_the_best_thief_is_the_one_who_trusts_the_answers() -> None:
    defense = Deception(beta=0.5)
    panel = thief_panel(defense, {defense: line(30, 50)}, line(30, 50), ERRORS, "slider", "alt")
    assert [each["name"] for each in panel["lines"] if "DCP" in each["name"]] == ["DCP"]
    assert panel["points"]["now"] == [pytest.approx([0.2]), pytest.approx([40])]
