"""Read an untrusted image file as a picture, and take its central square.

An uploaded file may be damaged, very large or malicious. `read_image` returns an upright 8-bit RGB picture or raises
`ImageError` with a message for the user; it raises nothing else. Transparent pixels are blended with white. 16-bit
samples keep their high byte. Colour profiles are not applied. Only the first frame or page is read.

The number of bytes is checked while reading, the number of pixels and the work (see structure.py) before decoding.
Decoding takes up to 17 bytes a pixel (WebP and float TIFF; an RGB JPEG takes 8 to 10), so a file within `MAX_BYTES` and
`MAX_PIXELS` never takes more than 0.5 GB. Pillow's own limits are not changed, because they are global to the process.
"""

import io
import os
import re
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

import numpy as np
from PIL import Image

from dcp_core.data.structure import ImageError, Structure, Work, structure, unusual

Source = bytes | BinaryIO | str | os.PathLike[str]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 25_000_000  # enough for a 24-megapixel camera; memory grows with it, see above
MAX_READS = 200_000  # Pillow reads junk, small blocks and BMP runs a few bytes at a time, in Python
_A_READ = 100  # units of work; see structure.py

_MAGIC = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<WEBP>RIFF....WEBP)|(?P<BMP>BM)"
    rb"|(?P<GIF>GIF8[79]a)|(?P<TIFF>II\*\0|MM\0\*)",
    re.DOTALL,
)
_UPRIGHT = {  # EXIF orientation -> the transposition that makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    source: Source, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS, work: Work | None = None
) -> Image.Image:
    """Read an upright 8-bit RGB picture from bytes, an open binary file or a path.

    Args:
        max_bytes, max_pixels: largest file and picture that are read.
        work: limit on the work of decoding, shared with other pictures. Default: `MAX_WORK` for this picture alone.

    Raises:
        ImageError: for every file that cannot be read; no other error is raised, whatever the file contains.
    """
    data = _read(source, max_bytes)
    kind = _kind(data)
    try:
        found = structure(data, kind)
        picture = _decode(found, kind, max_pixels, work or Work())
        # the decoder's memory is freed before the picture is transposed
        undo = _UPRIGHT.get(found.orientation)
        return picture if undo is None else picture.transpose(undo)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, ...
        raise ImageError(
            f"This {kind} file is damaged, incomplete or in a rare format. "
            "Open it in a picture program and save it again as PNG or JPEG."
        ) from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """Centre square of a picture, resized: uint8 (3, size, size).

    Pillow's bilinear filter averages over all pixels when it reduces (no aliasing), and interpolates without overshoot
    when it enlarges. torchvision's `Resize` does the same. A picture that already is size x size is not resampled.

    Raises:
        ValueError: for a `size` below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side)).convert("RGB")
    pixels = np.array(middle.resize((size, size), Image.Resampling.BILINEAR))  # a copy if side == size
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_source(source: Source) -> AbstractContextManager[BinaryIO]:
    """Bytes, an open file or a path as a context manager that gives a binary file.

    A file that was already open is not closed at the end.

    Raises:
        ImageError: for a path that cannot be opened.
    """
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        return nullcontext(source)  # the caller closes it
    try:
        return open(source, "rb")
    except (OSError, ValueError) as error:
        raise ImageError("This file cannot be opened. Check its name and its permissions.") from error


def _read(source: Source, max_bytes: int) -> bytes:
    with open_source(source) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise ImageError("This file cannot be read. Upload it again.") from error
    if len(data) > max_bytes:
        raise ImageError(f"This file is larger than {mib(max_bytes)}. Save the picture with fewer pixels.")
    return data


def _kind(data: bytes) -> str:
    """The format, one of `FORMATS`, by the first bytes of the file; its name is not used."""
    if match := _MAGIC.match(data):
        return str(match.lastgroup)
    if not data:
        raise ImageError("This file is empty. Upload it again.")
    what = "not a picture in a supported format"
    if data[4:8] == b"ftyp":
        what = "a HEIC or AVIF picture, or a video"
    elif data.startswith(b"%PDF"):
        what = "a PDF document"
    elif data.startswith(b"PK"):
        what = "a zip archive"
    elif data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        what = "a web page or an SVG drawing"
    raise ImageError(f"This file is {what}. Use JPEG, PNG, WebP, BMP, GIF or TIFF.")


def _decode(found: Structure, kind: str, max_pixels: int, work: Work) -> Image.Image:
    work.spend(found.work)  # before Pillow opens the file, which already reads its tables
    with Image.open(_CountedReads(found.data, work), formats=[kind]) as image:
        _check_pixels(image.width, image.height, max_pixels)
        if found.pixels > max_pixels:
            raise _too_many_pixels(max_pixels)
        work.spend(found.cost(*image.size) - found.work)
        image.load()
        picture = _rgb(image)
    picture.info.clear()  # transparency and orientation were applied; other metadata, such as the place, is private
    return picture


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("This picture has no pixels. Open it in a picture program and save it again.")
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)


def _too_many_pixels(max_pixels: int) -> ImageError:
    return ImageError(
        f"This picture has more than {max_pixels / 1e6:g} million pixels. Reduce its size and save it again."
    )


def mib(size: int) -> str:
    """A number of bytes in words: "20 MiB"."""
    return f"{size / 2**20:g} MiB"


class _CountedReads(io.BytesIO):
    """A file that refuses after `MAX_READS` reads: this limits the time of loops in Pillow that read piece by piece."""

    def __init__(self, data: bytes, work: Work) -> None:
        super().__init__(data)
        self.reads, self.work = 0, work

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        self.work.spend(_A_READ)
        if self.reads > MAX_READS:
            raise unusual("picture")
        return super().read(size)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _grey(image)
    if image.mode == "La":  # premultiplied alpha: the only mode that cannot be converted to RGBA directly
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode != "RGBA":  # converting to the same mode would only copy
        image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _grey(image: Image.Image) -> Image.Image:
    """Convert grey samples of more than 8 bits to 8 bits.

    Integers from 0 to 65,535 keep their high byte, as Pillow does in colour. Floats within [0, 1] are multiplied by 255.
    Any other values are stretched so that the smallest finite one is black and the largest white. NaN and minus infinity
    become black, infinity becomes white.
    """
    values = np.array(image)
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 0xFFFF:
        if (transparent := image.info.get("transparency")) is not None:
            values[values == transparent] = 0xFFFF  # transparent pixels become white
        return Image.fromarray((values >> 8).astype(np.uint8))
    values = values.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    with np.errstate(all="ignore"):
        values -= low
        values *= 255 / max(high - low, 1e-30)
        np.nan_to_num(values, copy=False)
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
