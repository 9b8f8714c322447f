"""The structure of an untrusted picture file, read without decoding it: the cost of decoding, and the orientation.

Work is counted before a decoder runs, because decoders cannot be interrupted. A unit is about the time to write one
pixel of an ordinary picture: at most 5 ns on a desktop processor (`python -m benchmarks.hostile` measures it). The costs
of each format below are the largest that were measured over hostile files, rounded up.

Metadata never reaches the decoder. From a few kilobytes of it, Pillow would unpack gigabytes or make millions of objects.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_WORK = 100_000_000  # units of one picture or of one request: about half a second
MAX_SEGMENTS = 1_000  # JPEG segments, or PNG chunks without pixels; ordinary files have tens of them
MAX_CHUNKS = 20_000  # chunks of a PNG or WebP; a PNG of the largest size with the usual chunks of 8 kB has 2,560
MAX_BLOCKS = 100_000  # TIFF strips or tiles

# Units of work
_A_BLOCK = 400  # a TIFF strip or tile: Python objects
_A_SEGMENT = 1_000  # a JPEG segment, PNG or WebP chunk: Python, here and in Pillow
_A_TABLE_BYTE = 25  # a byte of JPEG quantisation tables, read by Pillow in Python; a photograph has 130
_A_ROW = 10  # a row of any picture, however short

# A JPEG marker that has a length, or the end marker (D9). Stuffed FF, RSTn, SOI, JPG and JPGn have no length.
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; other frames are lossless or arithmetic
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The TIFF tags that describe pixels: size, samples, strips, tiles, orientation, palette, JPEG tables, YCbCr.
_TIFF_TAGS = {*range(254, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320}
_TIFF_TAGS |= {322, 323, 324, 325, 338, 339, 347, 529, 530, 531, 532}
_TIFF_JPEG = 7
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, _TIFF_JPEG, 8, 32773, 32946}  # none, fax, LZW, JPEG, deflate, PackBits
_ORIENTATION = 274


class ImageError(ValueError):
    """A file that cannot be used. The message is for the user: what is wrong, and what to do."""


class Work:
    """The work of decoding that is still allowed, for one picture or for all pictures of a request together."""

    def __init__(self, units: float = MAX_WORK) -> None:
        self.left = units

    def spend(self, units: float) -> None:
        """Count work before it is done.

        Raises:
            ImageError: if this is more than what is left. Then nothing is left.
        """
        if units > self.left:
            self.left = 0
            raise ImageError(
                "Decoding would take too long. Send fewer pictures, or save them with fewer pixels and not as "
                "progressive JPEG."
            )
        self.left -= units


@dataclass(frozen=True)
class Structure:
    """A file without its metadata, the cost of decoding its first picture, and its EXIF orientation (1 to 8)."""

    data: bytes
    work: float  # units that do not depend on the picture's size
    a_pixel: float = 0  # units
    orientation: int = 1
    pixels: int = 0  # of a TIFF's tiles together, which are decoded as a whole

    def cost(self, width: int, height: int) -> float:
        """Units of work for a picture of this size."""
        return self.work + max(width * height, self.pixels) * self.a_pixel + height * _A_ROW


def structure(data: bytes, kind: str) -> Structure:
    """The cost of decoding a file of the format `kind`, and the file without its metadata.

    Raises:
        ImageError: for a file that no ordinary program writes.
        Exception: any other, for a damaged file.
    """
    special = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff}
    return special[kind](data) if kind in special else Structure(data, len(data), 3)


def unusual(kind: str) -> ImageError:
    """The refusal of a file that a decoder might read, but that no ordinary program writes."""
    return ImageError(f"This {kind} file has an unusual structure and is not read. Save it again as PNG or JPEG.")


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block; 1 (upright) if there is none or the block is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(order + "L", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, first)
        for at in range(first + 2, first + 2 + 12 * min(entries, MAX_SEGMENTS), 12):
            tag, kind, _count, value = struct.unpack_from(order + "HHLH", exif, at)
            if (tag, kind) == (_ORIENTATION, 3):
                return value
    except struct.error:
        pass
    return 1


def _jpeg(data: bytes) -> Structure:
    """Only the segments that describe pixels are kept before the first scan; what follows it is kept as it is."""
    kept, exif = [data[:2]], b""
    for marker, at, end in _segments(data):
        if marker == 0xDA:
            kept.append(data[at:])
            break
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = exif or data[at + 4 : end]
        if marker in (0xE0, 0xEE) or not 0xE0 <= marker <= 0xFE:  # of the metadata, only JFIF's and Adobe's
            kept.append(data[at:end])
    return Structure(b"".join(kept), _jpeg_work(data), orientation=_orientation(exif))


def _jpeg_work(data: bytes, start: int = 0) -> float:
    """The work of one JPEG stream that begins at `start`.

    A scan visits every sample of its components, and in the end every sample is transformed. Decoding a byte costs
    extra: in a progressive stream a byte may hold eight bits that each refine a coefficient.
    """
    work, a_byte, end = 0.0, 1.2, start
    samples: dict[int, float] = {}
    for marker, at, _end in _segments(data, start):
        work, end = work + _A_SEGMENT, _end
        if marker == 0xDB:
            work += _A_TABLE_BYTE * (end - at)
        if marker in _JPEG_FRAMES:
            samples = _samples(data, at + 4)
            a_byte = 6 if marker == 0xC2 else a_byte
            work += sum(samples.values())
        elif marker == 0xDA:
            names = data[at + 5 : at + 5 + 2 * data[at + 4] : 2]
            work += 0.3 * sum(samples.get(name, 0) for name in names)
    return work + a_byte * (end - start)


def _segments(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """The marker, start and end of each segment of a JPEG stream, up to the end marker after a scan.

    Raises:
        ImageError: for thousands of segments, or a rare kind of frame.
    """
    at, count, scanned = start, 0, False
    while match := _JPEG_MARKER.search(data, at):
        marker, begin = match[0][1], match.start()
        at = begin + 2
        count, scanned = count + 1, scanned or marker == 0xDA
        if count > MAX_SEGMENTS or marker in _OTHER_FRAMES:
            raise unusual("JPEG")
        if marker == 0xD9:  # the end marker; before any scan it is ignored, as decoders do
            if scanned:
                yield marker, begin, at
                return
            continue
        at += max(2, int.from_bytes(data[at : at + 2]))
        yield marker, begin, at
    yield 0xD9, len(data), len(data)  # cut short


def _samples(data: bytes, at: int) -> dict[int, float]:
    """Samples of each component of a JPEG frame whose header is at `at`, in whole blocks, by the component's number."""
    _depth, height, width, count = struct.unpack_from(">BHHB", data, at)
    components = [struct.unpack_from(">BB", data, at + 6 + 3 * i) for i in range(count)]
    across = max(sampling >> 4 for _, sampling in components)
    down = max(sampling & 15 for _, sampling in components)
    whole = -(-width // (8 * across)) * -(-height // (8 * down)) * 64
    return {name: whole * (sampling >> 4) * (sampling & 15) for name, sampling in components}


def _png(data: bytes) -> Structure:
    at, others, exif, kept, chunks = 8, 0, b"", [data[:8]], 0
    while at + 8 <= len(data):
        length, chunk = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length
        chunks += 1
        if chunk in _PNG_CHUNKS:
            kept.append(data[at:end])
        else:
            others += chunk not in (b"fdAT", b"fcTL")
            exif = data[at + 8 : end - 4] if chunk == b"eXIf" and not exif else exif
        if others > MAX_SEGMENTS or chunks > MAX_CHUNKS:
            raise unusual("PNG")
        if chunk == b"IEND":
            break
        at = end
    depth, colour = struct.unpack_from(">BB", data, 24)
    bytes_a_pixel = _PNG_CHANNELS.get(colour, 4) * depth / 8  # before compression
    work = chunks * _A_SEGMENT + len(data)
    return Structure(b"".join(kept), work, 1 + 1.5 * bytes_a_pixel, _orientation(exif))


def _webp(data: bytes) -> Structure:
    """Pillow stores WebP's metadata without reading it, so it can stay."""
    at, exif, lossy, chunks = 12, b"", False, 0
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sL", data, at)
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise unusual("WebP")
        if name == b"EXIF" and not exif:
            exif = data[at + 8 : at + 8 + length]
        lossy |= name == b"VP8 " or (name == b"ANMF" and data[at + 24 : at + 28] != b"VP8L")
        at += 8 + length + length % 2
    work = chunks * _A_SEGMENT + (9 if lossy else 2) * len(data)  # lossy: much work for few bytes
    return Structure(data, work, 3, _orientation(exif))


def _tiff(data: bytes) -> Structure:
    """A tag is removed by setting its type to 0, which decoders skip.

    A file with more or larger strips or tiles than the picture needs is refused, because they can all point to the same
    bytes.
    """
    order = "<" if data[:2] == b"II" else ">"
    stripped = bytearray(data)
    tags: dict[int, tuple[int, int, int, int]] = {}  # type, count, first value, where the values are
    (first,) = struct.unpack_from(order + "L", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, first)
    for at in range(first + 2, first + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHL", data, at)
        if tag not in _TIFF_TAGS:
            stripped[at + 2 : at + 4] = b"\0\0"
        elif tag in tags or count > MAX_BLOCKS:
            raise unusual("TIFF")
        else:
            value, (where,) = (
                struct.unpack_from(order + letter, data, at + 8) for letter in ("HL"[kind != 3], "L")
            )
            inline = count * (2 if kind == 3 else 4) <= 4
            tags[tag] = kind, count, value[0], at + 8 if inline else where

    def number(tag: int, default: int) -> int:
        kind, count, value, _ = tags.get(tag, (3, 1, default, 0))
        if kind not in (3, 4) or count != 1:
            raise unusual("TIFF")
        return value

    width, height, samples = number(256, 0), number(257, 0), number(277, 1)
    compression = number(259, 1)
    if compression not in _TIFF_COMPRESSIONS:
        raise ImageError("This TIFF uses a rare compression method. Save it again as PNG or JPEG.")
    across, down = width, min(number(278, height), height)
    tiled = bool(tags.keys() & {322, 323, 324, 325})
    if tiled:
        across, down = number(322, 0), number(323, 0)
    columns, rows = -(-width // across), -(-height // down)
    blocks = columns * rows * (samples if number(284, 1) == 2 else 1)
    too_many = any(tags[tag][1] > blocks for tag in (273, 279, 324, 325) if tag in tags)
    if too_many or (tiled and 273 in tags):
        raise unusual("TIFF")
    work = float(blocks * _A_BLOCK + len(data))
    if compression == _TIFF_JPEG:
        for start in _numbers(data, order, tags[324] if 324 in tags else tags[273]):
            work += _jpeg_work(data, start)
            if work > MAX_WORK:  # they may all point to the same long stream
                break
    pixels = columns * across * rows * down if tiled else 0
    a_pixel = (2 if compression == _TIFF_JPEG else 8) * max(1, samples / 3)
    return Structure(bytes(stripped), work, a_pixel, pixels=pixels)


def _numbers(data: bytes, order: str, tag: tuple[int, int, int, int]) -> tuple[int, ...]:
    """All values of a TIFF tag."""
    kind, count, _, where = tag
    if kind not in (3, 4):
        raise unusual("TIFF")
    return struct.unpack_from(f"{order}{count}{'H' if kind == 3 else 'L'}", data, where)
