"""Pictures for the tests of uploads: ordinary ones, and PNG files built byte by byte."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

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
