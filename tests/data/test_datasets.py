"""Data sets by name and by path, and readers of published file layouts, on small generated folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcp_core.data import datasets, folders, sources
from dcp_core.data.datasets import DataError, load, pictures, pool_words, pools_for, thief_knowledge


def _arrays(n: int = 6) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    y = np.arange(n) % 3
    return {"x_train": x, "y_train": y, "x_test": x[:3], "y_test": y[:3], "classes": np.array(["p", "q", "r"])}


def test_an_npz_of_ones_own_is_read_by_path_and_by_name(home: Path) -> None:
    path = home / "data" / "cifar10.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **_arrays())
    by_name, by_path = load("cifar10", "train"), load(str(path), "train")
    assert torch.equal(by_name.images, by_path.images)
    assert by_name.images.shape == (6, 3, 8, 8)
    assert torch.equal(by_name.images[1, 2], torch.from_numpy(_arrays()["x_train"][1, :, :, 2]))
    assert by_name.classes == ("p", "q", "r")
    assert len(load("cifar10", "test", limit=2)) == 2


def test_the_drawing_of_a_set_is_told_and_happens_once(home: Path) -> None:
    told: list[str] = []
    first = load("signs_pool_small", "train", report=told.append)
    assert len(first) == 4096
    assert told[0] == "drawing signs_pool_small (train), once: 0%"
    assert told[len(told) // 2].endswith(": 50%")
    told.clear()
    assert torch.equal(load("signs_pool_small", "train", report=told.append).images, first.images)
    assert not told


def test_a_query_pool_has_no_labels(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool.npz"
    np.savez(path, x_train=_arrays()["x_train"])
    pool = load(str(path), "train")
    assert pool.labels is None
    with pytest.raises(DataError, match="no 'test' pictures"):
        load(str(path), "test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": np.zeros((2, 8, 8, 3))}, "must be uint8"),
        ({"x_train": np.zeros((2, 3, 8, 8), np.uint8)}, "must be uint8"),
        ({"y_train": np.array([0, 1])}, "6 whole numbers"),
        ({"y_train": np.arange(6) - 1}, "whole numbers from 0"),
        ({"y_train": np.linspace(0, 1, 6)}, "whole numbers"),
        ({"y_train": np.arange(6)}, "only 3 class names"),
    ],
)
def test_a_wrong_npz_says_what_is_wrong(home: Path, tmp_path: Path, change: dict, words: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{**_arrays(), **change})
    with pytest.raises(DataError, match=words):
        load(str(path), "train")


def test_pickles_and_rubbish_are_never_loaded(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, x_train=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        load(str(path), "train")
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match="not a readable"):
        load(str(path), "train")


def test_a_folder_of_pictures_takes_its_classes_from_its_folders(home: Path, tmp_path: Path) -> None:
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("RGB", (40, 60), colour).save(tmp_path / "mine" / name / "one.png")
    (tmp_path / "mine" / "notes.txt").write_text("ignored")
    mine = load(str(tmp_path / "mine"), "train")
    assert mine.classes == ("blue", "red")
    assert mine.labels is not None
    assert mine.labels.tolist() == [0, 1]
    assert mine.images[0, :, 16, 16].tolist() == [0, 0, 255]
    for name in ("broken", "cut"):
        (tmp_path / "mine" / "red" / f"{name}.jpg").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"2 of 4 pictures cannot be read.*broken\.jpg.*cut\.jpg"):
        load(str(tmp_path / "mine"), "train")


def test_a_folder_is_decoded_once_and_again_when_a_file_changes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / f"{name}.png")
    read: list[str] = []
    real = folders.read_image
    monkeypatch.setattr(folders, "read_image", lambda path: read.append(path.name) or real(path))
    first, again = load(str(folder), "train"), load(str(folder), "train")
    assert pictures(str(folder), "train") == 2
    assert read == ["a.png", "b.png"]
    assert torch.equal(first.images, again.images)
    assert load(str(folder), "train", size=16).images.shape[2:] == (16, 16)
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "b.png")
    assert load(str(folder), "train").images[1, :, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("dataset", "pool", "known"),
    [
        ("cifar10", "cifar100", "knowledgeable"),
        ("cifar10", "cifar10", "knowledgeable"),
        ("cifar10", "svhn", "limited"),
        ("signs", "signs_pool_small", "knowledgeable"),
        ("signs", "textures", "limited"),
        ("mine.npz", "mine.npz", "knowledgeable"),
        ("mine.npz", "cifar10", "limited"),
        ("cifar10", None, "data-free"),
    ],
)
def test_what_a_thief_knows_follows_from_what_it_asks_about(dataset: str, pool: str | None, known: str) -> None:
    assert thief_knowledge(dataset, pool) == known


def test_pictures_are_called_similar_only_where_the_training_data_are_known() -> None:
    assert pool_words("signs", "signs_pool") == "similar pictures (signs_pool)"
    assert pool_words("signs", "some/where/mine.npz", named=False) == "other pictures"
    assert pool_words("given:mine", "textures") == "pictures (textures)"


def test_pools_are_offered_by_knowledge_and_size_and_the_ones_here_come_first(home: Path) -> None:
    assert pools_for("signs", 32, "knowledgeable") == ["signs_pool_small", "signs_pool"]
    assert pools_for("cifar10", 32, "knowledgeable") == ["cifar100"]
    others = pools_for("cifar10", 32, "limited")
    assert {"cifar10", "cifar100", "cub200"}.isdisjoint(others)
    assert others[0] == "signs"
    assert others[-1] == "gtsrb"
    assert pools_for("svhn", 32, "knowledgeable") == pools_for("svhn", 32, "limited")  # nothing related is known
    assert {"cub200", "voc", "textures"} <= set(pools_for("mine", 224, "limited"))  # smaller pictures are enlarged
    assert "textures" in pools_for("mine", 28, "limited")  # there are no smaller ones: these are reduced
    assert pools_for("cifar10", 32, "data-free") == []


def test_a_missing_data_set_names_the_command_that_brings_it(home: Path) -> None:
    with pytest.raises(DataError, match="python -m dcp_core data download gtsrb"):
        load("gtsrb", "test")
    with pytest.raises(DataError, match="no data set 'gtsbr'"):
        load("gtsbr", "test")


def test_offline_a_download_explains_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(scratch: Path) -> dict[str, np.ndarray]:
        raise OSError("no route to host")

    info = datasets.DATASETS["svhn"]
    monkeypatch.setitem(datasets.DATASETS, "svhn", type(info)(info.title, 10, 32, False, offline))
    with pytest.raises(DataError, match="Check the connection"):
        datasets.download("svhn")
    assert not datasets.path_of("svhn").exists()


def test_cub_is_read_from_its_published_layout(tmp_path: Path) -> None:
    (tmp_path / "images/001.Black_footed_Albatross").mkdir(parents=True)
    (tmp_path / "images/002.Laysan_Albatross").mkdir()
    names = ["001.Black_footed_Albatross/a.jpg", "002.Laysan_Albatross/b.jpg", "002.Laysan_Albatross/c.jpg"]
    for index, name in enumerate(names):
        Image.new("RGB", (300, 260), (index * 100, 0, 0)).save(tmp_path / "images" / name)
    Image.new("L", (300, 260), 200).save(tmp_path / "images" / names[2])  # CUB has grey pictures
    (tmp_path / "images.txt").write_text("".join(f"{i + 1} {n}\n" for i, n in enumerate(names)))
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 2\n3 2\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    (tmp_path / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n")
    arrays = sources.read_cub200(tmp_path)
    assert arrays["x_train"].shape == (2, 224, 224, 3)
    assert arrays["y_train"].tolist() == [0, 1]
    assert arrays["y_test"].tolist() == [1]
    assert arrays["x_train"][1].max() == 200
    assert arrays["classes"].tolist() == ["Black footed Albatross", "Laysan Albatross"]


def test_pictures_are_resized_whole_or_cropped_to_their_centre() -> None:
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (20, 0, 40, 20))
    whole, _ = sources.to_arrays([(wide, 1)], 1, 30)
    centre, labels = sources.to_arrays([(wide, 1)], 1, 30, crop=True)
    assert whole[0, 15, 2].tolist() == [255, 0, 0]
    assert (centre[0] == [0, 255, 0]).all()
    assert labels.tolist() == [1]


def test_the_published_sets_are_asked_for_as_torchvision_offers_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real classes are called with the real signatures; only their data is replaced."""
    from dcp_core.vision import torchvision

    torchvision()
    import torchvision.datasets as published

    pictures = [(Image.new("RGB", (50, 40), (9, 9, 9)), 1)] * 2

    def offer(name: str) -> None:
        kind = getattr(published, name)

        class Fake(kind):  # type: ignore[misc, valid-type]
            classes = ("zero", "one")

            def __init__(self, root, *args, **options) -> None:
                import inspect

                inspect.signature(kind.__init__).bind(self, root, *args, **options)

            def __len__(self) -> int:
                return 2

            def __getitem__(self, index: int) -> tuple[Image.Image, int]:
                return pictures[index]

        monkeypatch.setattr(published, name, Fake)

    for name, make in (("CIFAR10", sources.cifar10), ("SVHN", sources.svhn), ("GTSRB", sources.gtsrb)):
        offer(name)
        arrays = make(Path("/nowhere"))
        assert arrays["x_train"].shape == (2, 32, 32, 3)
        assert arrays["y_test"].tolist() == [1, 1]
    assert len(sources.gtsrb(Path("/nowhere"))["classes"]) == 43
