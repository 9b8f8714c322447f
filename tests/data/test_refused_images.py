"""Uploaded files that are not read as pictures: other formats, damaged, too large and malicious ones."""

import io
import random
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import pytest
from pictures import (
    HONEST,
    MIB,
    bomb,
    first_greys,
    grey_tiff,
    picture,
    png,
    refused,
    save,
)
from PIL import Image, ImageFile

from dcp_core.data.images import ImageError, read_image


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (b"%PDF-1.7\n%...", "PDF"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "AVIF"),
        (b"PK\3\4" + bytes(30), "zip"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not a picture"),
        (b"\x7fELF" + bytes(100), "not a picture"),
    ],
)
def test_other_files_are_named(data: bytes, word: str) -> None:
    assert word in refused(data)


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX", "JPEG2000", "EPS"])
def test_other_formats_of_pillow_are_not_tried(kind: str) -> None:
    refused(save(picture(), kind))


def test_a_file_that_cannot_be_opened_is_an_image_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path, "nul\0byte"):
        with pytest.raises(ImageError, match="cannot be opened"):
            read_image(path)


class Endless(io.RawIOBase):
    """A file without an end, which knows how much was taken from it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0
        self.taken += size
        return bytes(size)


def test_no_more_than_one_byte_over_the_limit_is_read() -> None:
    endless = Endless()
    with pytest.raises(ImageError, match=r"larger than 1 MiB"):
        read_image(endless, max_bytes=MIB)  # type: ignore[arg-type]
    assert endless.taken == MIB + 1


def test_limits_include_their_bound() -> None:
    data = save(picture((40, 30)), "PNG")
    assert read_image(data, max_bytes=len(data), max_pixels=1200).size == (40, 30)
    assert "larger than" in refused(data, max_bytes=len(data) - 1)
    assert "million pixels" in refused(data, max_pixels=1199)


@pytest.mark.parametrize("kind", HONEST)
def test_the_pixel_limit_holds_for_every_format(kind: str) -> None:
    assert "million pixels" in refused(HONEST[kind](), max_pixels=1199)


@pytest.mark.parametrize("kind", HONEST)
def test_a_file_cut_short_is_refused_or_read_but_nothing_else(kind: str) -> None:
    data = HONEST[kind]()
    animated = kind in ("MPO", "APNG", "WebP animation", "GIF animation", "TIFF pages")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tenth in range(10):
            try:
                read_image(data[: len(data) * tenth // 10])
            except ImageError:
                continue
            assert animated, f"{tenth}/10 of a {kind} is not a picture"


def with_checksums(data: bytes) -> bytes:
    """`data` with the checksums of a PNG put right, lest they keep every flipped byte from the decoder."""
    at = 8
    while data.startswith(b"\x89PNG\r\n\x1a\n") and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        data = data[:end] + struct.pack(">L", zlib.crc32(data[at + 4 : end])) + data[end + 4 :]
        at = end + 4
    return data


@pytest.mark.parametrize("kind", HONEST)
def test_flipped_bytes_give_a_picture_or_an_image_error(kind: str) -> None:
    original, random_ = HONEST[kind](), random.Random(kind)
    pictures = refusals = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(100):
            data = bytearray(original)
            reach = len(data) if random_.random() < 0.5 else min(len(data), 200)  # headers break more
            for _ in range(random_.choice((1, 2, 8))):
                data[random_.randrange(reach)] = random_.randrange(256)
            try:
                result = read_image(with_checksums(bytes(data)), max_pixels=200_000)
            except ImageError:
                refusals += 1
            else:
                pictures += 1
                assert result.mode == "RGB"
                assert result.width * result.height <= 200_000
    assert refusals > 10
    assert pictures > 0 or kind == "PNG"  # whose pixels have a checksum of their own


def test_sizes_of_nothing_are_refused() -> None:
    refused(png((0, 5), 8, 0, b""))
    refused(png((5, 0), 8, 0, b""))
    refused(grey_tiff(0, 3, b"abc"))
    refused(grey_tiff(3, 0, b"abc"))
    refused(b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\2\0;")
    refused(b"BM" + struct.pack("<LLLLllHH", 54, 0, 54, 40, 0, 0, 1, 24) + bytes(24))


def test_png_chunks_that_unpack_to_megabytes_are_never_unpacked() -> None:
    much = zlib.compress(bytes(50 * MIB), 9)
    start = time.process_time()
    for name, head in ((b"zTXt", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0"), (b"iCCP", b"key\0\0")):
        assert read_image(bomb(name, head + much, 100)).size == (1, 1)
    assert time.process_time() - start < 1  # unpacking them would take seconds


def test_png_with_thousands_of_chunks_is_refused() -> None:
    megabyte = zlib.compress(bytes(MIB), 9)
    refused(bomb(b"zTXt", b"\0\0" + megabyte, 15_000))  # no keyword: Pillow counts its memory not at all
    refused(bomb(b"prVt", b"", 300_000))
    refused(bomb(b"IDAT", b"", 300_000))


def jpeg_with(segments: bytes) -> bytes:
    data = save(picture(), "JPEG")
    return data[:2] + segments + data[2:]


def test_jpeg_with_thousands_of_segments_is_refused() -> None:
    exif = b"\xff\xe1" + struct.pack(">H", 72) + b"Exif\0\0" + bytes(64)
    refused(jpeg_with(exif * 200_000))
    refused(jpeg_with(b"\xff\xf0" + exif * 200_000))  # a marker without a length does not hide what follows
    refused(jpeg_with(b"\xff\xd9" + exif * 200_000))  # nor does an end before the pixels
    refused(jpeg_with(b"\xff\xe1\0\2" * 500_000))
    refused(jpeg_with(bytes(MIB)))
    refused(b"\xff\xd8" + b"\xff" * MIB + b"\0")


def test_a_megabyte_of_headers_is_refused_before_it_is_read() -> None:
    start = time.process_time()
    table = b"".join(bytes([number & 3]) + bytes([1]) * 64 for number in range(1000))
    assert "too long" in refused(jpeg_with((b"\xff\xdb" + struct.pack(">H", 65_002) + table) * 290))
    refused(jpeg_with(b"\xff\xd9" * 9 * MIB))  # ends before the pixels
    refused(b"RIFF" + struct.pack("<L", 19 * MIB) + b"WEBP" + b"abcd\0\0\0\0" * 2_400_000)
    refused(bomb(b"fdAT", b"", 1_600_000))
    assert time.process_time() - start < 3  # 18 s and more, if they were read


def scans(times: int) -> bytes:
    """A progressive JPEG of 4000 x 4000 whose last scan comes `times` times."""
    data = save(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + data[-2:]


def test_jpeg_with_thousands_of_scans_is_refused() -> None:
    data = scans(1)
    assert read_image(data).size == (4000, 4000)
    refused(scans(900))  # fewer than MAX_SEGMENTS


def test_gif_and_bmp_that_are_read_byte_by_byte_are_refused() -> None:
    screen = b"GIF89a" + struct.pack("<HH", 1, 1) + bytes(3)
    image = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2\x44\1\0;"
    refused(screen + b"!\xfe" + b"\1a" * MIB + b"\0" + image)
    refused(screen + bytes(MIB) + image)
    rle = b"BM" + struct.pack("<LLL", 0, 0, 62) + struct.pack("<LllHHLLllLL", 40, 1, 2, 1, 8, 1, 0, 0, 0, 2, 2)
    refused(rle + bytes(8) + b"\1\0" * (2 * MIB))


def test_tiff_with_absurd_strips_tiles_or_tags_is_refused() -> None:
    refused(grey_tiff(4000, 4000, bytes(4000 * 4000), t273=(4, [8] * 50_000), t278=(4, [3999])))
    refused(grey_tiff(1, 1, b"a", t273=(3, [8] * 500_000)))
    no_strips = {"t273": None, "t278": None, "t279": None}
    huge = {**no_strips, "t322": (4, [60_000]), "t323": (4, [60_000])}
    assert "million pixels" in refused(grey_tiff(9, 9, b"a", **huge, t324=(4, [8]), t259=(3, [8])))
    tiles = {**no_strips, "t322": (4, [1]), "t323": (4, [1])}
    refused(grey_tiff(4000, 4000, b"a", **tiles, t324=(4, [8] * 3_000_000)))  # as many as there are pixels
    refused(grey_tiff(9, 9, b"a", **no_strips, t322=(4, [0]), t323=(4, [0]), t324=(4, [8])))
    assert "rare compression method" in refused(
        grey_tiff(1, 1, b"a", t259=(3, [34925]))
    )  # LZMA may ask for gigabytes
    refused(grey_tiff(1, 1, b"a", t256=(4, [1, 60_000])))
    refused(b"II*\0\x08\0\0\0\xff\xff" + bytes(100))
    refused(b"II*\0\xff\xff\xff\xff")


def test_tiff_metadata_is_never_unpacked() -> None:
    # 2.5 million rationals in the EXIF directory would become objects of a gigabyte and take seconds
    data = grey_tiff(1, 1, b"a", t34665=(4, [0]), t34850=(4, [7] * 100_000))
    at = data.index(struct.pack("<HHL", 34665, 4, 1)) + 8
    where = len(data)
    exif = struct.pack("<HHHLLL", 1, 0x9999, 5, 2_400_000, where + 18, 0)
    data = data[:at] + struct.pack("<L", where) + data[at + 4 :] + exif + bytes(2_400_000 * 8)
    start = time.process_time()
    assert first_greys(read_image(data)) == [97]
    assert time.process_time() - start < 1


def webp_header(side: int) -> bytes:
    """An empty WebP canvas of side x side with one lossless frame of one pixel."""
    frame = save(Image.new("RGBA", (1, 1)), "WEBP", lossless=True)[12:]
    edge = struct.pack("<L", side - 1)[:3]
    anim = b"ANIM" + struct.pack("<LLH", 6, 0, 0)
    anmf = b"ANMF" + struct.pack("<L", 16 + len(frame)) + bytes(15) + b"\2" + frame
    body = b"WEBPVP8X" + struct.pack("<L", 10) + b"\x12\0\0\0" + edge + edge + anim + anmf
    return b"RIFF" + struct.pack("<L", len(body)) + body


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory Linux keeps")
def test_the_memory_of_bombs_and_of_honest_pictures_is_bounded(tmp_path: Path) -> None:
    assert read_image(webp_header(9)).size == (9, 9)
    bombs = {
        "png": png((60_000, 60_000), 1, 0, bytes(6000 * 7501)),  # a tenth of its rows
        "png_under_pillows_limit": png((9000, 9000), 8, 0, bytes(9000 * 9001)),
        "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," + bytes(9) + b"\2\2\x44\1\0;",
        "webp": webp_header(13_000),
        "webp_large": webp_header(2**24),
        "tiff_strips": grey_tiff(1, 1, b"a", t273=(3, [8] * 5_000_000)),
        "bmp": b"BM" + struct.pack("<LLLLllHH", 54, 0, 54, 40, 60_000, 60_000, 1, 24) + bytes(24),
        "jpeg": save(picture(), "JPEG").replace(struct.pack(">HH", 30, 40), b"\xff\xff\xff\xff"),
        "jpeg_segments": jpeg_with(b"\xff\xe1\0\2" * 5_000_000),
    }
    assert len(bombs["png"]) < MIB
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    honest = picture().convert("RGBA").resize((3500, 3500))
    honest.putalpha(200)
    (tmp_path / "honest").write_bytes(save(honest, "WEBP", lossless=True, method=0, quality=0))
    script = """
import re, sys
from pathlib import Path
from PIL import Image
from dcp_core.data.images import ImageError, read_image
# Not ru_maxrss: a process starts with that of the one that started it.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
Image.init()
for path in sys.argv[1:]:
    before = peak()
    try:
        result = read_image(path, max_bytes=2**25).size
    except ImageError as error:
        result = "refused"
    print(path.rpartition("/")[2], result, peak() - before, sep=";")
"""
    paths = [str(tmp_path / name) for name in ["honest", *bombs]]
    command = [sys.executable, "-c", script, *paths]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    (_, size, honest_mib), *rows = [line.split(";") for line in output.splitlines()]
    assert [name for name, *_ in rows] == list(bombs)
    for name, result, mib in rows:
        assert result == "refused", name
        assert float(mib) < 20, name  # beyond what the honest picture took
    assert size == "(3500, 3500)"
    assert 8 < float(honest_mib) * MIB / 3500**2 < 18  # bytes a pixel; it is 16, and some slack


def test_pillows_settings_are_left_alone() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    read_image(save(picture(), "JPEG"))
    assert "million pixels" in refused(png((60_000, 60_000), 1, 0, b""))  # over Pillow's own limit, too
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


# Tensors
