"""What decoding is said to cost, in units of work: the same on every machine."""

import io
import struct
import zlib

import pytest
from PIL import Image

from benchmarks.hostile_pictures import BODIES, bmp_runs, exif, noise, saved, scans, zipped
from dcp_core.data.archives import read_archive
from dcp_core.data.images import read_image
from dcp_core.data.structure import MAX_WORK, ImageError, Work, structure


def cost(data: bytes, kind: str) -> float:
    with Image.open(io.BytesIO(data)) as image:
        return structure(data, kind).cost(*image.size)


def spent(data: bytes) -> float:
    work = Work()
    read_image(data, work=work)
    return MAX_WORK - work.left


def outcome(body: bytes) -> tuple[int, str]:
    """How many pictures of an archive are read within one request's work, and why the next is not."""
    read = 0
    for _, picture in read_archive(body, max_files=100, max_total_bytes=2**26, work=Work()):
        if isinstance(picture, ImageError):
            return read, str(picture)
        read += 1
    return read, ""


def test_ordinary_photographs_are_read() -> None:
    black = Image.new("RGB", (6000, 4000))
    assert cost(saved(black, "JPEG"), "JPEG") + 1.2 * 10e6 < MAX_WORK  # 24 million pixels in 10 MB
    photograph = Image.new("RGB", (4000, 3000))
    assert cost(saved(photograph, "JPEG", progressive=True), "JPEG") + 6 * 3e6 < MAX_WORK
    assert cost(saved(photograph, "PNG"), "PNG") + 20e6 < MAX_WORK


def test_every_scan_of_a_jpeg_is_paid_for() -> None:
    picture = Image.new("RGB", (640, 480))
    once, ten = (cost(scans(picture, times), "JPEG") for times in (1, 11))
    assert ten - once >= 10 * 0.3 * 640 * 480  # the last scan refines the brightness
    baseline = cost(saved(picture, "JPEG", subsampling=0), "JPEG")
    assert baseline >= 1.3 * 3 * 640 * 480  # three components: transformed, and scanned once
    assert cost(saved(picture.convert("CMYK"), "JPEG"), "JPEG") > baseline


def test_pictures_that_are_one_pixel_wide_are_paid_for_in_whole_blocks() -> None:
    assert cost(saved(Image.new("L", (1, 8000)), "JPEG"), "JPEG") > 8 * 8000


def test_a_long_progressive_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match="not as progressive"):
        read_image(scans(Image.new("RGB", (2000, 2000)), 79))


def test_bytes_count_because_each_is_decoded() -> None:
    dense = saved(noise(300, 300), "JPEG", progressive=True, quality=100)
    assert cost(dense, "JPEG") > 6 * 0.99 * len(dense)


def test_a_request_has_one_account_for_all_its_pictures() -> None:
    assert outcome(BODIES["15 progressive JPEGs of 4992 x 4992 with 88 scans, zipped"]()) == (
        0,
        "Decoding would take too long. Send fewer pictures, or save them with fewer pixels and not as progressive JPEG.",
    )
    read, why = outcome(zipped(scans(Image.new("RGB", (400, 400)), 79), 60))
    assert 0 < read < 60
    assert "too long" in why
    read, why = outcome(zipped(bmp_runs(90_000), 20))  # Pillow reads them two bytes at a time
    assert 0 < read < 20
    assert "too long" in why


def test_without_an_account_each_picture_of_an_archive_has_its_own() -> None:
    picture = scans(Image.new("RGB", (1500, 1500)), 60)
    assert spent(picture) > 0.4 * MAX_WORK
    assert all(isinstance(each, Image.Image) for _, each in read_archive(zipped(picture, 3)))


def test_nothing_is_left_after_a_refusal() -> None:
    work = Work(100)
    work.spend(100)
    for _ in range(2):
        with pytest.raises(ImageError):
            work.spend(1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.filterwarnings("error")
def test_metadata_never_reaches_the_decoder(kind: str) -> None:
    picture = noise(8, 8)
    entries = 5_000 if kind == "JPEG" else 60_000
    block = exif(entries)[:60_000] if kind == "JPEG" else exif(entries)
    assert spent(saved(picture, kind, exif=block)) < 10e6  # and none of Pillow's warnings, one an entry


def test_tiff_strips_that_share_one_jpeg_stream_are_paid_for_each() -> None:
    data = saved(noise(64, 64), "TIFF", compression="jpeg")
    once = structure(data, "TIFF").work
    (directory,) = struct.unpack_from("<L", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    changed = bytearray(data)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, _, _, value = struct.unpack_from("<HHLL", data, at)
        if tag == 278:  # one row a strip
            struct.pack_into("<HHLL", changed, at, tag, 4, 1, 1)
        elif tag in (273, 279):
            struct.pack_into("<HHLL", changed, at, tag, 4, 64, len(changed))
            changed += struct.pack("<L", value) * 64
    assert structure(bytes(changed), "TIFF").work > 30 * once


def test_what_an_archive_unpacks_is_paid_for_before_it_is_unpacked() -> None:
    work = Work(1000)
    (only,) = read_archive(zipped(zlib.compress(bytes(2000)) + bytes(5000), 1), work=work)
    assert "too long" in str(only[1])
