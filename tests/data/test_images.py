"""Uploaded pictures: values of ordinary ones in every format, and malicious files."""

import io
import random
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import BLACK, BLUE, GREEN, MIB, RED, WHITE, bomb, chunk, close, picture, png, save
from PIL import Image, ImageFile

from dcp_core.data.images import ImageError, read_image, to_image, to_tensor


def tiff(tags: dict[int, tuple[int, list[int]]], pixels: bytes, order: str = "<") -> bytes:
    """TIFF of one directory; `tags`: number -> (3 SHORT or 4 LONG, values). Pixels lie at byte 8."""
    directory, arrays = b"", b""
    start = 8 + len(pixels) + len(pixels) % 2
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'HL'[kind == 4]}", *values)
        if len(packed) > 4:
            value = struct.pack(order + "L", after + len(arrays))
            arrays += packed
        else:
            value = packed.ljust(4, b"\0")
        directory += struct.pack(order + "HHL", tag, kind, len(values)) + value
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", start)
    count = struct.pack(order + "H", len(tags))
    return head + pixels.ljust(start - 8, b"\0") + count + directory + bytes(4) + arrays


def grey_tiff(width: int, height: int, pixels: bytes, **changed: Any) -> bytes:
    """Uncompressed 8-bit grey TIFF; `changed`: t<tag>=(kind, values) sets a tag, None removes it."""
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8]),
        259: (3, [1]),
        262: (3, [1]),
        273: (4, [8]),
        277: (3, [1]),
        278: (4, [height]),
        279: (4, [len(pixels)]),
    }
    for name, value in changed.items():
        tags[int(name[1:])] = value
    return tiff({tag: value for tag, value in tags.items() if value is not None}, pixels)


def first_row(image: Image.Image) -> list[tuple[int, int, int]]:
    return [(r, g, b) for r, g, b in np.asarray(image)[0].tolist()]


def first_greys(image: Image.Image) -> list[int]:
    assert all(r == g == b for r, g, b in first_row(image))
    return [r for r, _, _ in first_row(image)]


def refused(data: bytes, seconds: float = 1.5, **limits: int) -> str:
    """The message of the ImageError that `data` gives, soon."""
    start = time.process_time()
    with pytest.raises(ImageError) as caught:
        read_image(data, **limits)
    assert time.process_time() - start < seconds
    message = str(caught.value)
    assert message.endswith(".")
    assert ". " in message or "Use " in message  # what is wrong; what to do
    assert "<_io" not in message
    return message


EXIF_ALL: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_deflate"},
}
HONEST = {
    "JPEG": lambda: save(picture(), "JPEG", quality=95),
    "JPEG progressive": lambda: save(picture(), "JPEG", quality=95, progressive=True),
    "PNG": lambda: save(picture(), "PNG"),
    "PNG palette": lambda: save(picture().quantize(64), "PNG"),
    "WebP": lambda: save(picture(), "WEBP", quality=95),
    "WebP lossless": lambda: save(picture(), "WEBP", lossless=True),
    "BMP": lambda: save(picture(), "BMP"),
    "GIF": lambda: save(picture().quantize(64), "GIF"),
    "TIFF": lambda: save(picture(), "TIFF"),
    "TIFF LZW": lambda: save(picture(), "TIFF", compression="tiff_lzw"),
    "TIFF deflate": lambda: save(picture(), "TIFF", compression="tiff_deflate", dpi=(300, 300)),
    "TIFF JPEG": lambda: save(picture(), "TIFF", compression="jpeg", quality=95),
    "MPO": lambda: save(picture(), "MPO", save_all=True, append_images=[picture()], quality=95),
    "APNG": lambda: save(picture(), "PNG", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
    "WebP animation": lambda: save(
        picture(), "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30))], quality=95
    ),
    "GIF animation": lambda: save(
        picture().quantize(64), "GIF", save_all=True, append_images=[Image.new("P", (40, 30))]
    ),
    "TIFF pages": lambda: save(picture(), "TIFF", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
}


# Honest pictures


@pytest.mark.parametrize("kind", HONEST)
def test_every_format_gives_its_first_picture_in_rgb(kind: str) -> None:
    result = read_image(HONEST[kind]())
    assert (result.mode, result.size, result.info) == ("RGB", (40, 30), {})
    difference = np.abs(np.asarray(result, float) - np.asarray(picture(), float))
    assert difference.mean() < 12  # 64 colours; a wrong frame or swapped channels give over 50


def test_bytes_file_and_path_give_the_same(tmp_path: Path) -> None:
    data = save(picture(), "PNG")
    path = tmp_path / "photo.jpg"  # a wrong extension does not matter
    path.write_bytes(data)
    with path.open("rb") as file:
        results = [read_image(data), read_image(io.BytesIO(data)), read_image(path), read_image(str(path))]
        results.append(read_image(file))
    assert all(result.tobytes() == picture().tobytes() for result in results)


@pytest.mark.parametrize("kind", EXIF_ALL)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)  # red green blue / white black black, in blocks of 16
    for i, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        upright[i // 3 * 16 :, i % 3 * 16 :][:16, :16] = colour
    stored = {  # row 0 and column 0 of what is stored, as the EXIF standard names them
        1: upright,
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: np.rot90(upright, 1),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: np.rot90(upright, -1),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(Image.fromarray(np.ascontiguousarray(stored)), kind.split()[0], exif=exif, **EXIF_ALL[kind])
    result = read_image(data)
    assert result.size == (48, 32)
    for i, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        assert close(result.getpixel((i % 3 * 16 + 8, i // 3 * 16 + 8)), colour, 8)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(20),  # more tags than bytes
        b"MM\0*\xff\xff\xff\xff" + bytes(40),  # a directory beyond the end
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0A\0\0\0\0\0\0\0",  # an orientation of text
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",  # orientation 99
        b"<not exif at all>",
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_matter(kind: str, exif: bytes) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = read_image(save(picture(), kind, exif=b"Exif\0\0" + exif, **options))
    assert np.abs(np.asarray(result, float) - np.asarray(picture(), float)).mean() < 12


def test_alpha_is_laid_over_white() -> None:
    # 51/255 = 20 % of (10, 100, 200) on white: 204 + 0.2 * value
    rgba = read_image(save(Image.new("RGBA", (2, 2), (10, 100, 200, 51)), "PNG"))
    assert rgba.getpixel((1, 1)) == (206, 224, 244)
    grey = read_image(save(Image.new("LA", (2, 2), (100, 51)), "PNG"))
    assert grey.getpixel((0, 0)) == (224, 224, 224)
    webp = read_image(save(Image.new("RGBA", (2, 2), (10, 100, 200, 51)), "WEBP", lossless=True))
    assert webp.getpixel((0, 0)) == (206, 224, 244)
    clear = read_image(save(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG"))
    assert clear.getpixel((0, 0)) == WHITE


def test_premultiplied_alpha_is_laid_over_white() -> None:
    # grey 100 at 20 % is stored as 20, alpha 51
    data = grey_tiff(1, 1, bytes([20, 51]), t258=(3, [8, 8]), t277=(3, [2]), t338=(3, [1]))
    assert close(read_image(data).getpixel((0, 0)), (224, 224, 224), 1)


def test_palette_transparency_is_laid_over_white() -> None:
    palette = chunk(b"PLTE", bytes([*BLUE, *RED, *GREEN]))
    half = chunk(b"tRNS", bytes([128, 255]))  # blue at 128/255, red opaque, green opaque by default
    result = read_image(png((3, 1), 8, 3, b"\0\0\1\2", palette, half))
    assert first_row(result) == [(127, 127, 255), RED, GREEN]
    image = Image.new("P", (2, 1))
    image.putpalette([*BLUE, *RED])
    image.putpixel((1, 0), 1)
    gif = read_image(save(image, "GIF", transparency=0))
    assert first_row(gif) == [WHITE, RED]


def test_transparent_colour_of_a_png_without_alpha_is_white() -> None:
    colour = png((2, 1), 8, 2, b"\0\1\2\3\1\2\4", chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    assert first_row(read_image(colour)) == [WHITE, (1, 2, 4)]
    deep = png((2, 1), 16, 0, b"\0" + struct.pack(">HH", 500, 600), chunk(b"tRNS", struct.pack(">H", 500)))
    assert first_row(read_image(deep)) == [WHITE, (2, 2, 2)]


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = [0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]
    expected = [0, 0, 1, 127, 128, 255]
    grey = read_image(png((6, 1), 16, 0, b"\0" + struct.pack(">6H", *values)))
    assert first_greys(grey) == expected
    colour = read_image(png((2, 1), 16, 2, b"\0" + struct.pack(">6H", *values)))
    assert first_row(colour) == [(0, 0, 1), (127, 128, 255)]
    for order in "<>":
        tags = {256: (3, [6]), 257: (3, [1]), 258: (3, [16]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8])}
        data = tiff(tags, struct.pack(f"{order}6H", *values), order)
        assert first_greys(read_image(data)) == expected


def test_sixteen_bit_alpha_is_laid_over_white() -> None:
    grey_alpha = png((1, 1), 16, 4, b"\0" + struct.pack(">HH", 100 << 8, 51 << 8))
    assert read_image(grey_alpha).getpixel((0, 0)) == (224, 224, 224)


def greys(values: list[float], dtype: type) -> list[int]:
    data = save(Image.fromarray(np.array([values], dtype)), "TIFF")
    return first_greys(read_image(data))


def test_32_bit_integers_are_read_as_16_bits_when_they_fit_else_stretched() -> None:
    assert greys([0, 256, 65535], np.int32) == [0, 1, 255]
    assert greys([-100, 0, 300], np.int32) == [0, 64, 255]
    assert greys([0, 10**6, 4 * 10**6], np.int32) == [0, 64, 255]


def test_floats_in_0_1_are_taken_as_they_are_else_stretched() -> None:
    assert greys([0.2, 0.4, 0.6], np.float32) == [51, 102, 153]
    assert greys([-2, 0, 6], np.float32) == [0, 64, 255]
    assert greys([0, 1000, 4000], np.float32) == [0, 64, 255]


@pytest.mark.filterwarnings("error")  # as NumPy's about a NaN made an integer
def test_floats_may_be_nan_infinite_constant_or_extreme() -> None:
    inf, nan = float("inf"), float("nan")
    assert greys([nan, 0.5, 1, inf, -inf], np.float32) == [0, 128, 255, 255, 0]
    assert greys([nan, nan, inf, -inf], np.float32) == [0, 0, 255, 0]
    assert greys([7, 7], np.float32) == [0, 0]
    assert greys([-3e38, 3e38], np.float32) == [0, 255]


def test_one_bit_and_low_depths() -> None:
    bits = read_image(png((8, 1), 1, 0, b"\0\xaa"))
    assert first_greys(bits) == [255, 0] * 4
    pairs = read_image(png((4, 1), 2, 0, b"\0\x1b"))  # 0 1 2 3
    assert first_greys(pairs) == [0, 85, 170, 255]
    fax = read_image(save(Image.new("1", (64, 4), 1), "TIFF", compression="group4"))
    assert fax.getpixel((9, 2)) == WHITE


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    cyan = read_image(save(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), kind))
    assert close(cyan.getpixel((8, 8)), (0, 255, 255))
    black = read_image(save(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), kind))
    assert close(black.getpixel((8, 8)), BLACK)


def test_ycck_is_converted() -> None:
    # Stored are 255 - CMYK = (100, 128, 128, 255); taken as Y, Cb, Cr, K: grey 100, whose inverse is 155.
    data = save(Image.new("CMYK", (16, 16), (155, 127, 127, 0)), "JPEG", quality=100)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    ycck = data[:at] + b"\2" + data[at + 1 :]
    assert close(read_image(ycck).getpixel((8, 8)), (155, 155, 155))


def test_lab_is_converted() -> None:
    # sRGB red: L 53.2 of 100 -> 136, a 80 + 128, b 67 + 128
    data = save(Image.new("LAB", (4, 4), (136, 208, 195)), "TIFF")
    assert close(read_image(data).getpixel((1, 1)), RED, 12)


def test_run_length_bmp_and_bmp_from_top_to_bottom() -> None:
    palette = bytes([0, 0, 255, 0, 255, 0, 0, 0])  # red, blue
    pixels = b"\4\0\0\0" + b"\4\1\0\0" + b"\0\1"  # the lower row is first: red; blue
    size = struct.pack("<LllHHLLllLL", 40, 4, 2, 1, 8, 1, len(pixels), 0, 0, 2, 2)
    head = b"BM" + struct.pack("<LLL", 14 + 40 + 8 + len(pixels), 0, 62)
    result = read_image(head + size + palette + pixels)
    assert (result.getpixel((3, 1)), result.getpixel((0, 0))) == (RED, BLUE)
    flipped = struct.pack("<LllHHLLllLL", 40, 1, -2, 1, 24, 0, 8, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<LLL", 62, 0, 54) + flipped + b"\0\0\xff\0" + b"\xff\0\0\0"
    assert [read_image(data).getpixel((0, y)) for y in range(2)] == [RED, BLUE]


def test_tiled_and_planar_tiff() -> None:
    tile = bytes(range(256))  # one tile of 16 x 16 for a picture of 10 x 10
    tags = {"t273": None, "t278": None, "t279": None, "t322": (3, [16]), "t323": (3, [16])}
    result = read_image(grey_tiff(10, 10, tile, **tags, t324=(4, [8]), t325=(4, [256])))
    assert result.getpixel((3, 2)) == (35, 35, 35)
    planes = {"t258": (3, [8, 8, 8]), "t262": (3, [2]), "t277": (3, [3]), "t284": (3, [2])}
    planes |= {"t273": (4, [8, 9, 10]), "t279": (4, [1, 1, 1])}
    assert read_image(grey_tiff(1, 1, b"\1\2\3", **planes)).getpixel((0, 0)) == (1, 2, 3)


# What is refused


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


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(noise), 32)
    assert (tensor.dtype, tensor.shape) == (torch.float32, (3, 32, 32))
    assert tensor.is_contiguous()
    assert torch.equal(tensor, torch.from_numpy(noise).permute(2, 0, 1).float() / 255)
    assert np.array_equal(np.asarray(to_image(tensor)), noise)


@pytest.mark.parametrize(("size", "box"), [((6, 2), (2, 0)), ((2, 6), (0, 2)), ((5, 2), (1, 0))])
def test_the_centre_square_is_kept(size: tuple[int, int], box: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    left, top = box
    expected = torch.from_numpy(noise[top : top + 2, left : left + 2]).permute(2, 0, 1).float() / 255
    assert torch.equal(to_tensor(Image.fromarray(noise), 2), expected)


def test_reducing_takes_every_pixel_into_account() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # a plain subsampling gives all white or all black
    tensor = to_tensor(Image.fromarray(stripes), 16)
    assert torch.allclose(tensor, torch.full((3, 16, 16), 0.5), atol=0.02)


def test_enlarging_interpolates_between_the_pixels_and_never_beyond() -> None:
    tensor = to_tensor(Image.fromarray(np.array([[[0] * 3, [200] * 3]] * 2, np.uint8)), 8)
    row = tensor[0, 0]
    assert (row.min(), row.max()) == (0, pytest.approx(200 / 255))
    assert (row.diff() >= 0).all()
    assert len(row.unique()) > 2


def test_to_tensor_takes_any_mode_and_says_when_the_size_is_wrong() -> None:
    assert to_tensor(Image.new("L", (9, 9), 51), 3).unique().tolist() == [pytest.approx(0.2)]
    with pytest.raises(ValueError, match="size must be at least 1"):
        to_tensor(picture(), 0)


def test_to_image_rounds_to_the_nearest_level() -> None:
    tensor = torch.tensor([0.0, 1.0, 127.4 / 255, 127.6 / 255]).expand(3, 2, 4)
    image = to_image(tensor)
    assert (image.mode, image.size) == ("RGB", (4, 2))
    assert first_greys(image) == [0, 255, 127, 128]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(1, 3, 4, 4), "float tensor"),
        (torch.zeros(4, 4, 3), "float tensor"),
        (torch.zeros(3, 0, 4), "float tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "float tensor"),
        (torch.full((3, 4, 4), 1.01), "values in"),
        (torch.full((3, 4, 4), -0.01), "values in"),
        (torch.full((3, 4, 4), float("nan")), "values in"),
    ],
)
def test_to_image_says_what_it_expects(tensor: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_image(tensor)
