"""Uploaded pictures: values of ordinary ones in every format, and their conversion to tensors."""

import base64
import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import (
    BLACK,
    BLUE,
    GREEN,
    HONEST,
    RED,
    WHITE,
    chunk,
    close,
    first_greys,
    first_row,
    grey_tiff,
    picture,
    png,
    save,
    tiff,
)
from PIL import Image

from dcp_core.data.images import read_image
from dcp_core.data.tensors import to_image, to_tensor, to_url

EXIF_ALL: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_deflate"},
}


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


def test_a_picture_in_an_address_is_the_same_picture() -> None:
    pixels = torch.randint(0, 256, (3, 5, 7)).float() / 255
    head, _, content = to_url(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert np.array_equal(np.asarray(picture), (pixels * 255).round().permute(1, 2, 0).numpy())
