"""Functions that all pages share. Besides the pages, only this package imports Streamlit.

`key` and `bind="query-params"` store a widget's value in the URL, so that a view can be shared by copying its URL.
`persist_state="session"` keeps the value when the user changes the page. Two pages must not use the same key: on a change of
the page, Streamlit 1.67 removes the keys of the previous page from the URL, even if the link to the new page sets them.
"""

from dcp_core.ui.charts import chart, csv
from dcp_core.ui.controls import (
    DEFENSE,
    EMBEDDED,
    IN_URL,
    TRADEOFFS,
    attack_parameters,
    choose_defense,
    choose_l1,
    choose_victim,
    defense_parameters,
    defense_state,
    differing,
    parameter_state,
    select,
    victim_state,
    victims,
)
from dcp_core.ui.live import live, live_chart
from dcp_core.ui.live import switch as live_switch
from dcp_core.ui.live.answer import (
    LiveAnswer,
    answer_panels,
    class_panel,
    detector_panel,
    live_answer,
    noise_panel,
)
from dcp_core.ui.live.hero import headline, hero_panels
from dcp_core.ui.live.limit import limit_on_plot
from dcp_core.ui.live.tradeoff import cost_panels, curve_panel, strength_slider, thief_panel
from dcp_core.ui.page import PAGES, VIEWS, attempt, errors_explained, experts, frame, link, plain, presenting
from dcp_core.ui.runs import run_buttons, run_details, say_if_launching_is_off
from dcp_core.ui.scroll import scroll_to
from dcp_core.ui.stored import (
    all_results,
    armed,
    clear_pictures,
    guide_of,
    learned,
    load_victim,
    test_answers,
    thief_points,
)
from dcp_core.ui.thieves import choose_thief
from dcp_core.ui.uploads import keep, kept, pictures_in

__all__ = [
    "DEFENSE",
    "EMBEDDED",
    "IN_URL",
    "PAGES",
    "TRADEOFFS",
    "VIEWS",
    "LiveAnswer",
    "all_results",
    "answer_panels",
    "armed",
    "attack_parameters",
    "attempt",
    "chart",
    "choose_defense",
    "choose_l1",
    "choose_thief",
    "choose_victim",
    "class_panel",
    "clear_pictures",
    "cost_panels",
    "csv",
    "curve_panel",
    "defense_parameters",
    "defense_state",
    "detector_panel",
    "differing",
    "errors_explained",
    "experts",
    "frame",
    "guide_of",
    "headline",
    "hero_panels",
    "keep",
    "kept",
    "learned",
    "limit_on_plot",
    "link",
    "live",
    "live_answer",
    "live_chart",
    "live_switch",
    "load_victim",
    "noise_panel",
    "parameter_state",
    "pictures_in",
    "plain",
    "presenting",
    "run_buttons",
    "run_details",
    "say_if_launching_is_off",
    "scroll_to",
    "select",
    "strength_slider",
    "test_answers",
    "thief_panel",
    "thief_points",
    "victim_state",
    "victims",
]
