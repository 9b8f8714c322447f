"""Stored networks are replaced whole, and a broken card is named and hides no other victim."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from dcp_core.cli import main
from dcp_core.models import auxiliary, storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.cards import file_of
from dcp_core.models.inference import predict


class Killed(BaseException):
    """Stands for a process that ends here."""


def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process change the disk so many times, and no more."""
    left = steps

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return change(*arguments, **options)

        return wrapped

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


def survives(
    start: Callable[[], object],
    make: Callable[[], object],
    check: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Kill `make` between every two changes of the disk, each time from `start`, and `check` what is left; at the end it
    is not killed. Gives how often it was."""
    for steps in range(100):
        start()
        try:
            with monkeypatch.context() as limited:
                killed_after(steps, limited)
                make()
        except Killed:
            check()
        else:
            check()
            return steps
    raise AssertionError("it never ends")


def fresh(seed: int) -> Any:
    torch.manual_seed(seed)
    return build("resnet8", 4)


PICTURES = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(8) % 4


def save(seed: int) -> zoo.Card:
    model = fresh(seed)
    card = zoo.Card("toy", f"Toy {seed}", "toy", "resnet8", tuple("abcd"), 32)
    return storing.save(model, card, predict(model, PICTURES), LABELS)


def whole(titles: set[str]) -> str:
    """The victim's title, after checking that its weights and answers belong to it."""
    card = zoo.card("toy")
    logits, labels = zoo.test_answers("toy")
    torch.testing.assert_close(predict(zoo.network("toy"), PICTURES), logits)
    assert torch.equal(labels, LABELS)
    assert card.title in titles
    return card.title


def test_a_victim_killed_while_it_is_replaced_is_the_old_one_or_the_new_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    kills = survives(lambda: save(1), lambda: save(2), lambda: seen.append(whole({"Toy 1", "Toy 2"})), monkeypatch)
    assert kills >= 5  # two files, the card, two old files
    assert (seen[0], seen[-1]) == ("Toy 1", "Toy 2")
    assert len(list((home / "victims" / "toy").glob("[!.]*"))) == 3  # nothing is left of the old one


def test_files_with_plain_names_are_replaced_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "victims" / "toy"

    def save_plainly() -> None:
        for file, digest in save(1).files.items():
            if digest:
                file_of(folder, file, digest).rename(folder / file)
        assert whole({"Toy 1"})

    survives(save_plainly, lambda: save(2), lambda: whole({"Toy 1", "Toy 2"}), monkeypatch)
    assert not (folder / zoo.WEIGHTS).exists()


def test_saving_the_same_victim_again_keeps_it(home: Path) -> None:
    assert save(1) == save(1)
    assert whole({"Toy 1"})


def test_an_onnx_file_is_added_and_goes_with_the_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes | None] = []

    def check() -> None:
        whole({"Toy 1"})
        seen.append(zoo.onnx_file("toy") if zoo.card("toy").onnx_sha256 else None)

    survives(lambda: save(1), lambda: storing.add_onnx("toy", b"1"), check, monkeypatch)
    assert (seen[0], seen[-1], set(seen)) == (None, b"1", {None, b"1"})
    seen.clear()
    survives(lambda: storing.add_onnx("toy", b"1"), lambda: storing.add_onnx("toy", b"2"), check, monkeypatch)
    assert (seen[0], seen[-1], set(seen)) == (b"1", b"2", {b"1", b"2"})
    save(2)
    with pytest.raises(zoo.VictimError, match="no ONNX file yet"):
        zoo.onnx_file("toy")
    assert not list((home / "victims" / "toy").glob("model*"))


def test_a_second_network_killed_while_it_is_replaced_is_the_old_or_the_new(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1)

    def keep(seed: int) -> None:
        card = auxiliary.AuxiliaryCard("surrogate", "toy", "resnet8", "toy", 10, {"seed": seed}, 1.0, 50.0, 0, "")
        auxiliary.keep(fresh(seed), card)

    def check() -> None:
        about = auxiliary.card("toy", "surrogate")
        assert about is not None
        loaded = auxiliary.load("toy", "surrogate").state_dict()
        expected = fresh(about.recipe["seed"]).state_dict()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)

    assert survives(lambda: keep(5), lambda: keep(6), check, monkeypatch) >= 3
    assert len(list((home / "victims" / "toy").glob("surrogate*"))) == 2


def test_answers_that_are_not_the_cards_are_refused(home: Path) -> None:
    save(1)
    (path,) = (home / "victims" / "toy").glob("test_answers-*")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(zoo.VictimError, match="sha256"):
        zoo.test_answers("toy")
    for shipped in zoo.cards():
        assert shipped.answers_sha256, shipped.name


@pytest.mark.parametrize("name", ["", "../toy", ".toy", "a/b", "torchvision:resnet18"])
def test_a_name_that_cannot_be_a_folders_is_refused(home: Path, name: str) -> None:
    model = fresh(0)
    card = zoo.Card(name, "Toy", "toy", "resnet8", tuple("abcd"), 32)
    with pytest.raises(zoo.VictimError, match="choose another"):
        storing.save(model, card, torch.zeros(4, 4), torch.arange(4))


def changed(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda card: json.dumps(card | fields).encode()


BROKEN: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "empty": lambda card: b"",
    "binary": lambda card: b"\xff\xfe\0\x81",
    "half": lambda card: b"{",
    "no object": lambda card: b"[]",
    "deep": lambda card: b"[" * 100_000,
    "no title": lambda card: json.dumps({k: v for k, v in card.items() if k != "title"}).encode(),
    "numeric title": changed(title=7),
    "unprintable title": changed(title="\ud800"),
    "accuracy in words": changed(test_accuracy="good"),
    "accuracy above 100": changed(test_accuracy=930),
    "infinite accuracy": lambda card: json.dumps(card).replace(str(card["test_accuracy"]), "1e999").encode(),
    "no number": changed(test_accuracy=float("nan")),
    "pictures in words": changed(test_pictures="10,000"),
    "parameters are true": changed(parameters=True),
    "half a pixel": changed(size=31.5),
    "no pixel": changed(size=0),
    "no classes": changed(classes=[]),
    "classes by number": changed(classes={"0": "a"}),
    "numeric classes": changed(classes=[1, 2, 3, 4]),
    "a text of classes": changed(classes="abcd"),
    "unknown precision": changed(precision="int4"),
    "precision in a list": changed(precision=["fp32"]),
    "a recipe in words": changed(recipe="fast"),
    "a digest that leads elsewhere": changed(sha256="../../../x"),
    "a foreign name": changed(name="signs-resnet8"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_card_is_named_and_hides_no_other_victim(home: Path, damage: str) -> None:
    save(1)
    before = zoo.names()
    path = home / "victims" / "toy" / zoo.CARD
    path.write_bytes(BROKEN[damage](json.loads(path.read_text())))
    for use in (zoo.card, zoo.load, zoo.test_answers):
        with pytest.raises(zoo.VictimError, match=r"victims/toy/card\.json"):
            use("toy")
    assert zoo.names() == [name for name in before if name != "toy"]
    (problem,) = zoo.problems()
    assert str(path) in str(problem)
    told = CliRunner().invoke(main, ["victims"])
    assert told.exit_code == 0
    assert "signs-resnet8" in told.stdout
    assert str(path) in told.stderr
    if damage != "a foreign name":  # replaced, the victim is well again
        save(2)
        assert not zoo.problems()


def test_fields_of_a_newer_version_are_ignored(home: Path) -> None:
    save(1)
    path = home / "victims" / "toy" / zoo.CARD
    before = zoo.card("toy")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"licence": "MIT", "colours": [3]}))
    assert zoo.card("toy") == before
    card = auxiliary.AuxiliaryCard("surrogate", "toy", "resnet8", "toy", 10, {}, 1.0, 50.0, 0, "")
    kept = auxiliary.keep(fresh(1), card)
    path = path.with_name("surrogate.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"licence": "MIT"}))
    assert auxiliary.card("toy", "surrogate") == kept


@pytest.mark.parametrize(
    "fields", [{"seconds": "long"}, {"victim": "other"}, {"kind": "../x"}, {"sha256": "../x"}]
)
def test_a_broken_card_of_a_second_network_is_named(home: Path, fields: dict[str, Any]) -> None:
    save(1)
    auxiliary.keep(
        fresh(1), auxiliary.AuxiliaryCard("surrogate", "toy", "resnet8", "toy", 10, {}, 1.0, 50.0, 0, "")
    )
    path = home / "victims" / "toy" / "surrogate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(zoo.VictimError, match=r"surrogate\.json is broken"):
        auxiliary.card("toy", "surrogate")
