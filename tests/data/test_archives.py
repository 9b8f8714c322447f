"""Uploaded zip archives, ordinary and malicious ones."""

import io
import struct
import time
import zipfile
from pathlib import Path

import pytest
from pictures import BLUE, GREEN, MIB, RED, picture, save
from PIL import Image

from dcp_core.data import archives
from dcp_core.data.archives import read_archive
from dcp_core.data.images import ImageError


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_an_archive_gives_its_pictures_in_name_order(tmp_path: Path) -> None:
    colours = {"b/2.png": RED, "a.png": GREEN, "b/1.png": BLUE}
    files = {name: save(Image.new("RGB", (2, 2), colour), "PNG") for name, colour in colours.items()}
    skipped = {
        "b/": b"",
        "__MACOSX/b/._1.png": b"x",
        "__MACOSX/1.png": b"x",
        ".DS_Store": b"x",
        "b/.thumb.png": b"x",
    }
    data = zipped(files | skipped | {"notes.txt": b"not a picture"})
    path = tmp_path / "pictures.zip"
    path.write_bytes(data)
    for source in (data, io.BytesIO(data), path):
        results = dict(read_archive(source))
        assert list(results) == ["a.png", "b/1.png", "b/2.png", "notes.txt"]
        refusal = results.pop("notes.txt")
        assert isinstance(refusal, ImageError)
        for name, result in results.items():
            assert isinstance(result, Image.Image)
            assert result.getpixel((0, 0)) == colours[name]
    assert list(tmp_path.iterdir()) == [path]


def only(data: bytes, **limits: int) -> str:
    """The message that takes the place of the one picture of an archive."""
    [(_, result)] = read_archive(data, **limits)
    assert isinstance(result, ImageError)
    return str(result)


def archive_refused(data: bytes, monkeypatch: pytest.MonkeyPatch, **limits: int) -> str:
    monkeypatch.setattr(archives, "read_image", lambda *_, **__: pytest.fail("decoded before the refusal"))
    with pytest.raises(ImageError) as caught:
        next(read_archive(data, **limits))
    return str(caught.value)


def test_pictures_are_read_one_at_a_time() -> None:
    data = zipped({f"{i}.png": save(picture(), "PNG") for i in range(3)})
    reading = read_archive(data)
    assert next(reading)[0] == "0.png"
    reading.close()  # type: ignore[attr-defined]


def test_limits_of_a_picture_hold_in_an_archive() -> None:
    data = zipped({"a.png": save(picture(), "PNG")})
    assert "million pixels" in only(data, max_pixels=1199)
    assert "larger than" in only(data, max_bytes=100)


def test_large_members_are_read() -> None:
    noise = Image.effect_noise((1200, 1200), 99).convert("RGB")
    [(_, result)] = read_archive(zipped({"a.bmp": save(noise, "BMP")}, zipfile.ZIP_STORED))
    assert isinstance(result, Image.Image)
    assert result.tobytes() == noise.tobytes()


def test_a_member_larger_than_the_limit_is_not_unpacked() -> None:
    data = zipped({"bomb.png": bytes(60 * MIB), "good.png": save(picture(), "PNG")})
    assert len(data) < MIB
    start = time.process_time()
    (_, bombed), (_, good) = read_archive(data)
    assert time.process_time() - start < 1
    assert "larger than 20 MiB" in str(bombed)
    assert isinstance(good, Image.Image)


def test_a_member_that_lies_about_its_size_is_refused() -> None:
    for claimed in (40, 2**31):
        data = zipped({"a.png": save(picture(), "PNG") + bytes(5 * MIB)})
        real = struct.pack("<L", len(save(picture(), "PNG")) + 5 * MIB)
        assert data.count(real) == 2  # local header and directory
        data = data.replace(real, struct.pack("<L", claimed))
        limits = {"max_total_bytes": 2**32}
        message = only(data, max_bytes=MIB, **limits)
        assert "damaged" in message or "larger than" in message


def test_broken_encrypted_nested_and_rarely_packed_members_are_refused() -> None:
    inner = zipped({"a.png": save(picture(), "PNG")})
    assert "zip archive" in only(zipped({"inner.png": inner}))
    stored = zipped({"a.png": save(picture(), "PNG")}, zipfile.ZIP_STORED)
    assert "damaged" in only(stored.replace(b"IDAT", b"IDAX"))  # its checksum no longer fits
    directory = stored.index(b"PK\1\2")
    encrypted = bytearray(stored)
    encrypted[6] |= 1
    encrypted[directory + 8] |= 1
    assert "password" in only(bytes(encrypted))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "rare compression method" in only(zipped({"a.png": bytes(MIB)}, method))


def test_untrustworthy_archives_are_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    good = save(picture(), "PNG")
    two = zipped({"a.png": good, "b.png": good})
    assert "not a zip" in archive_refused(good, monkeypatch)
    assert "not a zip" in archive_refused(b"", monkeypatch)
    assert "not a zip" in archive_refused(two[:-30], monkeypatch)
    assert "no pictures" in archive_refused(zipped({"folder/": b"", ".hidden": b"x"}), monkeypatch)
    assert "2 files" in archive_refused(two, monkeypatch, max_files=1)
    assert "unpacks to more" in archive_refused(two, monkeypatch, max_total_bytes=2 * len(good) - 1)
    second = two.rindex(b"PK\1\2")
    overlapping = two[: second + 42] + bytes(4) + two[second + 46 :]  # both members start at 0
    assert "overlap" in archive_refused(overlapping, monkeypatch)


def test_a_directory_of_a_hundred_thousand_files_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = b"PK\1\2" + struct.pack("<HHHHHHLLLHHHHHLL", *[20] * 2, *[0] * 7, 1, *[0] * 6) + b"a"
    directory = entry * 100_000
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(directory), 0, 0)
    start = time.process_time()
    assert "too many files" in archive_refused(directory + end, monkeypatch)
    assert time.process_time() - start < 0.2


def test_an_archive_that_cannot_be_opened_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be opened"):
        next(read_archive(tmp_path / "missing.zip"))
