"""Every page through AppTest: no exception, correct numbers, state from the URL."""

import dataclasses
import gc
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from dcp_core import DEFENSES, Deception, answers, make_defense, ui
from dcp_core.api.pictures import predictions
from dcp_core.evaluation.guides import guide_of_test_set
from dcp_core.models import auxiliary, zoo
from dcp_core.plots.thief import THIEF
from dcp_core.ui import PAGES, defense_state
from dcp_core.ui.page import _spare_the_collector

APP = str(Path(__file__).parents[2] / "app.py")
SIGNS = "signs-resnet8"


def open_page(page: str, **query: str) -> AppTest:
    """A page as a browser opens it from an address."""
    app = AppTest.from_file(APP, default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception, app.exception
    return app


def texts(app: AppTest) -> str:
    """All prose of a page, with what its live pictures say now."""
    prose = [str(element.value) for kind in ("markdown", "caption", "info", "error") for element in app.get(kind)]
    live = {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in live_numbers(app).items()}
    return "\n".join([*prose, *(f"{name} {value}" for name, value in live.items())])


def live_numbers(app: AppTest) -> dict[str, float | str]:
    """The sentence, the numbers and the words that a page's live pictures show now, by their names."""
    shown: dict[str, float | str] = {}
    for picture in app.get("bidi_component"):
        for panel in json.loads(picture.proto.json or "{}").get("panels", []):
            for each in panel.get("tiles", [panel]):
                if panel["kind"] in ("sentence", "gauge", "tiles"):
                    now = each["value"]["now"]
                    shown[each.get("label", "sentence")] = each["texts"][now] if each.get("texts") else now
    return shown


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_without_an_error(home: Path, page: str) -> None:
    app = open_page(page)
    assert app.title[0].value == PAGES[page][0]
    assert not app.error


@pytest.mark.parametrize("page", ["story", "playground", "tradeoffs", "attack_lab", "quantized", "cost"])
def test_a_broken_card_is_told_in_one_line_and_hides_no_other_victim(
    home: Path, victim: zoo.Victim, page: str
) -> None:
    broken = home / "victims" / "toy" / zoo.CARD
    broken.write_text("{")
    app = open_page(page)
    (warning,) = [each.value for each in app.warning if str(broken) in each.value]
    assert "\n" not in warning
    assert not app.error
    for picker in (each for each in app.selectbox if each.label == "Victim"):
        assert "toy" not in picker.options
        assert len(picker.options) >= 7


def test_a_victim_of_unknown_accuracy_can_be_looked_at(home: Path, victim: zoo.Victim) -> None:
    card = home / "victims" / "toy" / zoo.CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | {"test_accuracy": None}))
    assert "accuracy unknown" in texts(open_page("playground", victim="toy"))


def test_the_collector_called_after_every_run_passes_over_what_imports_left(home: Path) -> None:
    gc.unfreeze()
    _spare_the_collector.cache_clear()
    open_page("paper")
    assert gc.get_freeze_count() > 100_000


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_in_class_view(home: Path, page: str) -> None:
    open_page(page, view="class")


def test_the_playground_shows_the_librarys_numbers(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, picture="7", dcp_beta="0.6", dcp_tau_auto="false", dcp_tau="1.2")
    logits, _ = zoo.test_answers(SIGNS)
    expected = answers.defend(logits[7][None], Deception(beta=0.6, tau=1.2))
    l1 = float((expected.defended - expected.clean).abs().sum())
    shown = live_numbers(app)
    assert shown["l1 distance"] == pytest.approx(l1, abs=1e-4)
    assert shown["Largest probability"] == pytest.approx(float(expected.defended.max()), abs=1e-4)


def test_moving_a_slider_changes_the_answer(home: Path) -> None:
    app = open_page("playground", victim=SIGNS)
    before = texts(app)
    app.slider(key="dcp_beta").set_value(0.0).run()
    assert not app.exception
    assert live_numbers(app)["l1 distance"] == 0
    assert texts(app) != before


def test_without_live_pictures_the_page_shows_the_same_numbers(home: Path) -> None:
    shown = live_numbers(open_page("playground", victim=SIGNS))
    app = open_page("playground", victim=SIGNS, live="false")
    assert not live_numbers(app)
    assert app.metric[0].value == f"{shown['l1 distance']:.3f}"
    assert str(shown["sentence"]) in texts(app)


@pytest.mark.parametrize(
    "closer", ["Functions", "Every step", "All defenses", "What the thief sees", "Many pictures"]
)
@pytest.mark.parametrize("defense", ["dcp", "random", "grad2"])
def test_every_closer_look_opens(home: Path, closer: str, defense: str) -> None:
    app = open_page("playground", victim=SIGNS, closer=closer, defense=DEFENSES[defense].title)
    assert app.selectbox(key="defense").value == defense
    assert not app.error


def test_the_thief_sees_what_the_api_sends(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, picture="7", closer="What the thief sees", dcp_beta="0.6")
    shown, command = (json.loads(app.main.code[0].value), app.main.code[1].value)
    logits, _ = zoo.test_answers(SIGNS)
    defended = answers.defend(logits[7][None], Deception(beta=0.6)).defended
    assert shown == {"predictions": predictions(defended.numpy(), zoo.card(SIGNS).classes)}
    assert command == f"python -m dcp_core serve --victim {SIGNS} --defense dcp --beta 0.6"


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize(("page", "prefix"), [("playground", ""), ("tradeoffs", "t_")])
def test_a_link_reproduces_every_defense(home: Path, name: str, page: str, prefix: str) -> None:
    defense = make_defense(name)
    if page == "tradeoffs" and not defense.strength:
        pytest.skip("has no trade-off")
    if defense.strength:
        defense = dataclasses.replace(defense, **{defense.strength: defense.grid[2]})
    state = {f"{prefix}victim": SIGNS, **defense_state(defense, prefix)}
    app = open_page(
        page, **{key: str(value).lower() if value is True else str(value) for key, value in state.items()}
    )
    assert app.selectbox(key=f"{prefix}defense").value == name
    if defense.strength:
        assert app.slider(key=f"{prefix}{name}_{defense.strength}").value == defense.grid[2]
    assert not app.error


@pytest.mark.parametrize("name", ["am", "mad", "grad2"])
def test_a_model_based_defense_shows_the_librarys_numbers_and_its_hidden_costs(home: Path, name: str) -> None:
    defense = make_defense(name)
    app = open_page(
        "playground", victim=SIGNS, picture="7", **{k: str(v) for k, v in defense_state(defense).items()}
    )
    logits, _ = zoo.test_answers(SIGNS)
    guide = guide_of_test_set(SIGNS, defense)[7:8]
    expected = answers.defend(logits[7][None], defense, guide=guide)
    l1 = float((expected.defended - expected.clean).abs().sum())
    assert live_numbers(app)["l1 distance"] == pytest.approx(l1, abs=1e-4)
    assert "one forward pass of it for each query" in texts(app)


def test_a_degenerate_choice_is_refused_with_a_reason(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, defense=DEFENSES["grad2"].title, grad2_gradients="last")
    assert "all gains are 0" in app.error[0].value


def test_a_missing_second_network_is_named_with_its_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auxiliary, "_card_in", lambda victim, kind: None)
    streamlit.cache_resource.clear()
    app = open_page("playground", victim=SIGNS, defense=DEFENSES["am"].title)
    assert "python -m dcp_core auxiliary" in texts(app)


def test_an_uploaded_picture_is_answered_as_the_library_answers_it(home: Path, tmp_path: Path) -> None:
    import io

    import numpy as np
    from PIL import Image

    from dcp_core import answer, load_victim, read_image, to_tensor

    pixels = np.random.default_rng(3).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    app = open_page("playground", victim=SIGNS, source="upload")
    app.file_uploader(key="upload").upload("mine.png", buffer.getvalue(), "image/png").run()
    assert not app.exception
    tensor = to_tensor(read_image(buffer.getvalue()), 32)[None]
    expected = answer(load_victim(SIGNS), tensor, Deception())
    l1 = float((expected.defended - expected.clean).abs().sum())
    assert live_numbers(app)["l1 distance"] == pytest.approx(l1, abs=1e-4)


def test_a_hostile_upload_is_a_sentence(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, source="upload")
    app.file_uploader(key="upload").upload("evil.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "image/png").run()
    assert not app.exception
    assert len(app.error) == 1


def test_a_torchvision_victim_that_cannot_be_fetched_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcp_core.vision import torchvision

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    torchvision()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    app = open_page("playground", victim="torchvision:squeezenet1_1")
    assert "could not be downloaded" in app.error[0].value


@pytest.mark.parametrize(
    "query",
    [
        {"dcp_beta": "99"},
        {"dcp_beta": "x"},
        {"victim": "../../etc/passwd"},
        {"picture": "-1"},
        {"picture": "99999999"},
        {"defense": "nothing"},
        {"closer": "?"},
    ],
)
def test_a_mangled_address_still_opens(home: Path, query: dict[str, str]) -> None:
    open_page("playground", **query)


def test_the_tradeoffs_page_shows_the_librarys_numbers(home: Path) -> None:
    app = open_page("tradeoffs", t_victim=SIGNS, t_dcp_beta="0.5")
    logits, labels = zoo.test_answers(SIGNS)
    defended = Deception(beta=0.5)(logits=logits)
    error = 100 * float((defended.argmax(1) != labels).double().mean())
    l1 = float((defended - logits.softmax(1)).abs().sum(1).mean())
    shown = live_numbers(app)
    assert shown["Owner's error"] == pytest.approx(error, abs=1e-4)
    assert shown["mean l1"] == pytest.approx(l1, abs=1e-4)
    assert "At β = 0.5, DCP moves answers" in str(shown["sentence"])
    plain = open_page("tradeoffs", t_victim=SIGNS, t_dcp_beta="0.5", t_live="false")
    assert str(shown["sentence"]) in texts(plain)
    assert plain.metric[1].value == f"{error:.2f} %"


def test_without_measured_thieves_the_tradeoffs_page_says_what_is_missing(home: Path) -> None:
    app = open_page("tradeoffs", t_data="svhn")
    assert any("python -m dcp_core attack --victim svhn-resnet20" in block.value for block in app.code)


@pytest.mark.parametrize("step", range(6))
def test_every_step_of_the_story_opens_and_leads_on(home: Path, step: int) -> None:
    app = open_page("story")
    for _ in range(step):
        next(b for b in app.button if b.label == "Next").click().run()
        assert not app.exception
    assert app.subheader[-1].value.startswith(f"{step + 1}. ")


@pytest.mark.parametrize("name", ["rs", "Reverse Sigmoid (RS)"])
def test_an_address_may_name_a_defense_by_its_short_name_or_its_title(home: Path, name: str) -> None:
    app = open_page("playground", victim=SIGNS, defense=name, rs_beta="0.32")
    assert app.selectbox(key="defense").value == "rs"
    assert app.slider(key="rs_beta").value == 0.32


def test_an_address_may_name_a_victim_by_its_short_name(home: Path) -> None:
    app = open_page("playground", victim="cifar10-resnet20")
    assert app.selectbox(key="victim").value == "cifar10-resnet20"


def test_the_paper_page_sets_what_each_defense_adds_beside_the_papers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, pd.DataFrame] = {}
    monkeypatch.setattr(ui, "chart", lambda *_, key, data, **__: drawn.update({key: data}))

    def cells() -> pd.DataFrame:
        table = drawn["table2_grid"]
        table = table[(table["dataset"] == "cifar10") & (table["max_defender_increase"] == 1)]
        return table.set_index("defense")[["measured", "paper", "difference"]]

    app = open_page("paper")
    rises = cells()
    assert "none" not in rises.index
    assert rises.loc["dcp", "paper"] == pytest.approx(21.87 - 18.03)
    app.selectbox(key="paper_what").set_value(THIEF).run()
    errors = cells()
    assert errors.loc["dcp", "paper"] == 21.87
    above = errors.loc["dcp"] - errors.loc["none"]
    assert rises.loc["dcp", "measured"] == pytest.approx(above["measured"], abs=0.02)
    assert rises.loc["dcp", "difference"] == pytest.approx(above["measured"] - above["paper"], abs=0.02)


def test_without_any_victim_the_pages_name_the_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(zoo, "PRECOMPUTED", tmp_path)
    for page in ("story", "playground", "tradeoffs"):
        app = open_page(page)
        assert "python -m dcp_core train" in app.error[0].value


def test_a_defense_without_strength_is_left_behind_on_the_tradeoffs_page(home: Path) -> None:
    app = open_page("playground", defense=DEFENSES["label"].title)
    assert app.selectbox(key="defense").value == "label"
    app.switch_page("pages/tradeoffs.py").run()
    assert not app.exception


def test_the_home_page_answers_its_question_with_measured_numbers(home: Path) -> None:
    app = open_page("story")
    said = next(each.value for each in app.subheader if "after 10,000 queries" in each.value)
    clone, stolen = map(int, re.findall(r"clone answers (\d+) .* your model (\d+)", said)[0])
    sentence = str(live_numbers(app)["sentence"])
    defended = int(re.findall(r"β = 0.9, the clone answers (\d+)", sentence)[0])
    assert 0 < defended <= clone <= stolen <= 100
