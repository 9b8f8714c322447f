"""Request bodies that make decoders work: what one of them may cost at most.

Each is about as large as the limits allow, or larger. `benchmarks/hostile.py` measures them, and the tests read them.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

SIDE = 3000


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file of this format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def zipped(picture: bytes, times: int) -> bytes:
    """A deflated archive with the same picture many times: it is small if the picture is regular."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(times):
            archive.writestr(f"{number:03}", picture)
    return file.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture that cannot be compressed."""
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


def rough(width: int, height: int) -> Image.Image:
    """Waves with some noise, for which compression works but is slow."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(0).normal(0, 6, (height, width))
    waves = [127 + 110 * np.sin(x / 15 + i) * np.cos(y / 17 - i) + grain for i in range(3)]
    return Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8))


def scans(image: Image.Image, times: int, quality: int = 90) -> bytes:
    """A progressive JPEG whose last scan comes `times` times."""
    data = saved(image, "JPEG", progressive=True, quality=quality)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + data[-2:]


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def png(
    size: tuple[int, int], depth: int, colour: int, pixels: bytes, *before: bytes, interlaced: bool = False
) -> bytes:
    """A PNG of compressed rows, each with its filter byte; `before` are chunks put before the pixels."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", *size, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", pixels) + chunk(b"IEND")


def interlaced(side: int) -> bytes:
    """An interlaced PNG with 64 bits a pixel and the slowest filter."""
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        rows += (b"\4" + bytes(8 * len(range(left, side, across)))) * len(range(top, side, down))
    return png((side, side), 16, 6, zlib.compress(rows, 1), interlaced=True)


def exif(entries: int) -> bytes:
    """An EXIF block with tens of thousands of entries, all of which point to the same bytes."""
    table = b"".join(struct.pack("<HHLL", i, 5, 2000, 8) for i in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + table + bytes(20_004)


def empty_blocks(size: int) -> bytes:
    """A deflate stream of so many bytes with one zero byte at its end: all else are empty blocks with Huffman tables."""
    # final 0, type 2; HLIT 257, HDIST 1, HCLEN 18; then the code lengths, packed least significant bit first
    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1]
    lengths = {18: 1, 1: 1}
    bits = [(0, 1), (2, 2), (0, 5), (0, 5), (len(order) - 4, 4)] + [(lengths.get(s, 0), 3) for s in order]
    # symbol 18 is code 1, symbol 1 is code 0: 138 zeros, 118 zeros, one (end of block), one (a distance)
    bits += [(1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)]  # then the code of the end of the block
    value = at = 0
    while at == 0 or at % 8:  # as many blocks as make whole bytes
        for number, width in bits:
            value |= number << at
            at += width
    block = value.to_bytes(at // 8, "little")
    return b"\x78\x9c" + block * (size // len(block)) + b"\3\0" + struct.pack(">L", 1)


def gif_clears(side: int, size: int) -> bytes:
    """A GIF whose data only clears the decoder's table."""
    body = b"".join(bytes([255]) + bytes([0x00, 0x01, 0x02, 0x04, 0x08] * 51) for _ in range(size // 256))
    screen = b"GIF89a" + struct.pack("<HH", side, side) + b"\xf7\0\0" + bytes(768)
    return screen + b"," + struct.pack("<HHHH", 0, 0, side, side) + b"\0\x08" + body + b"\0;"


def bmp_runs(pairs: int) -> bytes:
    """A run-length BMP of runs of one pixel, which Pillow reads two bytes at a time."""
    head = struct.pack("<LllHHLLllLL", 40, pairs, 1, 1, 8, 1, 0, 0, 0, 2, 2)
    return b"BM" + struct.pack("<LLL", 0, 0, 62) + head + bytes(8) + b"\1\0" * pairs


def frames(kind: str) -> bytes:
    """An animation of 30 frames, of which only the first is wanted."""
    shown = [Image.new("RGB", (1500, 1500), (i, 0, 0)) for i in range(30)]
    return saved(shown[0], kind, save_all=True, append_images=shown[1:])


BODIES: dict[str, Callable[[], bytes]] = {
    "JPEG, noise": lambda: saved(noise(SIDE, SIDE), "JPEG", quality=90),
    "JPEG 4:4:4, rough, quality 100": lambda: saved(rough(2600, 2600), "JPEG", quality=100, subsampling=0),
    "JPEG, black, 24 million pixels": lambda: saved(Image.new("RGB", (6000, 4000)), "JPEG"),
    "JPEG, CMYK": lambda: saved(noise(2200, 2200, "CMYK"), "JPEG", quality=95),
    "JPEG, one pixel wide": lambda: saved(noise(1, 65_000), "JPEG", quality=95),
    "progressive JPEG, noise": lambda: saved(noise(2900, 2900), "JPEG", progressive=True, quality=90),
    "progressive JPEG, 20 times the last scan": lambda: scans(noise(1700, 1700), 20),
    "progressive JPEG, 60 times the last scan, black": lambda: scans(Image.new("RGB", (2000, 2000)), 60),
    "15 progressive JPEGs of 4992 x 4992 with 88 scans, zipped": lambda: zipped(
        scans(Image.new("RGB", (4992, 4992)), 79), 15
    ),
    "100 progressive JPEGs with 88 scans, zipped": lambda: zipped(scans(Image.new("RGB", (176, 176)), 79), 100),
    "30 JPEGs with 900 segments of metadata, zipped": lambda: zipped(
        b"\xff\xd8" + (b"\xff\xe1\x07\xd0Exif\0\0" + bytes(1992)) * 900 + saved(noise(8, 8), "JPEG")[2:], 30
    ),
    "PNG, rough": lambda: saved(rough(3600, 3600), "PNG", compress_level=1),
    "PNG, 64 bits a pixel, interlaced": lambda: interlaced(2700),
    "PNG, 60,000 x 60,000": lambda: png((60_000, 60_000), 1, 0, zlib.compress(bytes(6000 * 7501), 1)),
    "PNG, one pixel wide": lambda: png((1, 2_000_000), 8, 2, zlib.compress(b"\4\0\0\0" * 2_000_000, 1)),
    "PNG, 900 colour profiles of a MiB": lambda: png(
        (1, 1), 8, 2, zlib.compress(bytes(4)), *[chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20), 9))] * 900
    ),
    "PNG, 18 MB of empty deflate blocks": lambda: png((1, 1), 8, 0, empty_blocks(18_000_000)),
    "PNG, 60,000 EXIF entries": lambda: png((1, 1), 8, 2, zlib.compress(bytes(4)), chunk(b"eXIf", exif(60_000))),
    "20 PNGs with 60,000 EXIF entries, zipped": lambda: zipped(
        png((1, 1), 8, 2, zlib.compress(bytes(4)), chunk(b"eXIf", exif(60_000))), 20
    ),
    "WebP, noise": lambda: saved(noise(2300, 2300), "WEBP", method=0),
    "WebP, 24 million pixels": lambda: saved(Image.new("RGB", (6000, 4000)), "WEBP", method=0),
    "WebP lossless, rough": lambda: saved(rough(3000, 3000), "WEBP", lossless=True, quality=0, method=0),
    "WebP, 60,000 EXIF entries": lambda: saved(Image.new("RGB", (8, 8)), "WEBP", exif=exif(60_000)),
    "WebP animation": lambda: frames("WEBP"),
    "GIF, noise": lambda: saved(noise(4000, 4000).quantize(256, method=2), "GIF"),
    "GIF animation": lambda: frames("GIF"),
    "GIF, 10 MB of clear codes": lambda: gif_clears(3000, 10_000_000),
    "BMP, 19 MB": lambda: saved(noise(2500, 2500), "BMP"),
    "100 BMPs of runs, zipped": lambda: zipped(bmp_runs(90_000), 100),
    "TIFF, floats": lambda: saved(Image.fromarray(np.random.default_rng(0).random((2200, 2200), np.float32) * 9), "TIFF"),
    "TIFF, LZW, noise": lambda: saved(noise(2200, 2200), "TIFF", compression="tiff_lzw"),
    "TIFF, JPEG": lambda: saved(noise(2900, 2900), "TIFF", compression="jpeg", quality=80),
    "TIFF, deflate, black": lambda: saved(Image.new("RGB", (3400, 3400)), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, fax": lambda: saved(noise(3400, 3400, "L").convert("1"), "TIFF", compression="group4"),
    "100 PNGs of 400 x 400, zipped": lambda: zipped(saved(rough(400, 400), "PNG"), 100),
    "zip of 300 MB of zeros": lambda: zipped(bytes(3_000_000), 100),
}  # fmt: skip


def bodies() -> Iterator[tuple[str, bytes]]:
    """Name and body of each request. A body is only made when the iterator reaches it."""
    for name, make in BODIES.items():
        yield name, make()
