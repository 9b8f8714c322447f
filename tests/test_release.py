"""The release archive: made the same everywhere, and unpacked only if it is exactly what the wheel lists."""

import functools
import http.server
import json
import threading
import zipfile
from pathlib import Path

import pytest

from dcp_core import release
from dcp_core.models import zoo
from dcp_core.release import ReleaseError, fetch
from tools.release import archived, checksums, write_archive

FILES = ("far/card.json", "far/weights.safetensors", "signs-resnet8/card.json", "signs-resnet8-ptq/card.json")
FAR = "victims/far"


@pytest.fixture
def repository(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository; the running package knows the list of its archive, as an installed one does."""
    root = tmp_path / "repository"
    for name in FILES:
        path = root / "precomputed/victims" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    (root / "dcp_core").mkdir()
    (root / "dcp_core/__init__.py").write_text('__version__ = "9.8.7"\n')
    listed = tmp_path / "archive.json"
    listed.write_text(json.dumps(checksums(root)))
    monkeypatch.setattr(release, "LIST", listed)
    return root


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_archive_has_the_victims_that_the_wheel_lacks(repository: Path) -> None:
    assert archived(repository) == [f"{FAR}/card.json", f"{FAR}/weights.safetensors"]


def test_the_same_files_make_the_same_archive_whenever_they_were_written(repository: Path, tmp_path: Path) -> None:
    first = write_archive(repository, tmp_path)
    content = first.read_bytes()
    assert first.name == "dcp-victims-9.8.7.zip"
    for path in repository.rglob("*.json"):
        path.write_bytes(path.read_bytes())
        path.chmod(0o600)
    assert write_archive(repository, tmp_path).read_bytes() == content


def test_a_fetched_victim_is_what_was_packed_and_fetching_again_changes_nothing(
    repository: Path, home: Path, tmp_path: Path
) -> None:
    archive = write_archive(repository, tmp_path)
    assert fetch(str(archive)) == [FAR]
    assert (home / FAR / "card.json").read_text() == "content of far/card.json"
    assert files_below(home) == archived(repository)
    before = (home / FAR / "card.json").stat()
    assert fetch(str(archive)) == [FAR]
    assert (home / FAR / "card.json").stat() == before


def test_an_address_works_like_a_file_and_a_wrong_one_says_so(
    repository: Path, home: Path, tmp_path: Path
) -> None:
    archive = write_archive(repository, tmp_path)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ReleaseError, match="404"):
            fetch(f"{address}/elsewhere.zip")
        assert fetch(f"{address}/{archive.name}") == [FAR]
        server.shutdown()
    assert files_below(home) == archived(repository)


def test_a_victim_is_complete_before_it_has_a_card(
    repository: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(release, "write_atomic", lambda path, write: written.append(path.name))
    fetch(str(write_archive(repository, tmp_path)))
    assert written == ["weights.safetensors", "card.json"]


CHANGES = {
    "less": ({f"{FAR}/weights.safetensors": None}, "differs in victims/far/weights"),
    "more": ({"victims/near/card.json": b"x"}, "differs in victims/near"),
    "outside": ({"../../evil": b"x"}, "differs in ../../evil"),
    "absolute": ({"/tmp/evil": b"x"}, "differs in /tmp/evil"),
    "changed": (
        {f"{FAR}/card.json": b"Content of far/card.json"},
        "card.json in this archive is damaged or changed",
    ),
    "longer": ({f"{FAR}/card.json": b"content of far/card.json and more"}, "not packed as in the release"),
    "large": ({f"{FAR}/card.json": bytes(2_000_000)}, "larger than the archive of this version"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_an_archive_that_differs_is_refused_and_nothing_is_unpacked(
    repository: Path, home: Path, tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    contents = {name: (repository / "precomputed" / name).read_bytes() for name in archived(repository)}
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name, content in (contents | changes).items():
            if content is not None:
                other.writestr(name, content)
    with pytest.raises(ReleaseError, match=message):
        fetch(str(tmp_path / "other.zip"))
    assert not home.exists()


@pytest.mark.parametrize("damage", ["cut", "packed", "encrypted", "twice", "absent"])
def test_an_archive_that_is_no_release_is_refused_in_words(
    repository: Path, home: Path, tmp_path: Path, damage: str
) -> None:
    archive = write_archive(repository, tmp_path)
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        archive.write_bytes(content[:-40])
    elif damage == "encrypted":
        content[content.index(b"PK\x01\x02") + 8] |= 1
        archive.write_bytes(content)
    elif damage == "absent":
        archive.unlink()
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED if damage == "packed" else 0) as made:
            names = archived(repository)
            for name in names:
                made.writestr(name, (repository / "precomputed" / name).read_bytes())
            if damage == "twice":
                with pytest.warns(UserWarning, match="Duplicate"):
                    made.writestr(names[0], b"other")
    with pytest.raises(ReleaseError):
        fetch(str(archive))
    assert not home.exists()


def test_a_file_of_ones_own_is_never_overwritten(repository: Path, home: Path, tmp_path: Path) -> None:
    card = home / FAR / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text("mine")
    with pytest.raises(ReleaseError, match=r"Move .*/victims/far away"):
        fetch(str(write_archive(repository, tmp_path)))
    assert card.read_text() == "mine"
    assert files_below(home) == [f"{FAR}/card.json"]


def test_a_victim_that_only_the_archive_has_is_named_with_its_command(repository: Path) -> None:
    with pytest.raises(zoo.VictimError, match=r"`dcp fetch dcp-victims-9\.8\.7\.zip`"):
        zoo.card("far")


def test_the_repository_itself_needs_no_archive(home: Path) -> None:
    with pytest.raises(ReleaseError, match="every victim in precomputed/"):
        fetch("anything.zip")
