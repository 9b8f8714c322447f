"""Pictures for the tests of uploads: ordinary ones, and PNG files built byte by byte."""

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcp_core.data.images import ImageError, read_image

MIB = 2**20
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    """PNG whose `rows` start with their filter byte; `before` are chunks put before the pixels."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + pixels + chunk(b"IEND")


def picture(size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth picture with detail, the same every time."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [127 + 120 * np.sin(x / 5 + i) * np.cos(y / 7 - i) for i in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def close(pixel: Any, expected: tuple[int, int, int], tolerance: int = 3) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


def bomb(name: bytes, body: bytes, times: int = 1) -> bytes:
    return png((1, 1), 8, 0, b"\0\0", *[chunk(name, body)] * times)


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


def first_row(image: Image.Image) -> list[tuple[int, int, int]]:
    return [(r, g, b) for r, g, b in np.asarray(image)[0].tolist()]


def first_greys(image: Image.Image) -> list[int]:
    assert all(r == g == b for r, g, b in first_row(image))
    return [r for r, _, _ in first_row(image)]
