"""Read the pictures of an uploaded zip archive one by one, with a clear error for each that cannot be read."""

import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import BinaryIO

from PIL import Image

from dcp_core.data.images import MAX_BYTES, MAX_PIXELS, Source, mib, open_source, read_image
from dcp_core.data.structure import ImageError, Work


def read_archive(
    source: Source,
    *,
    max_files: int = 500,
    max_total_bytes: int = 200 * 2**20,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    work: Work | None = None,
) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """Yield (name, picture) for each file of a zip archive, in the order of the names.

    A file that `read_image` refuses yields (name, `ImageError`) instead. One picture is decoded at a time, and nothing
    is written to disk. Folders, dot files and __MACOSX are skipped.

    Args:
        max_files: largest number of pictures in the archive.
        max_total_bytes: largest size of all pictures together, unpacked, in bytes.
        max_bytes, max_pixels: limits of one picture.
        work: limit on the work of decoding, shared by all pictures. Default: each picture has its own limit.

    Raises:
        ImageError: at the first step, before anything is decoded, for a file that is no zip archive, and for an
            archive with too many files, too many bytes when unpacked, or members that overlap.
    """
    with open_source(source) as file:
        try:
            directory = _CappedReads(file, limit=max(2**17, 2**11 * max_files))
            archive = zipfile.ZipFile(directory)
            directory.limit = max(directory.limit, max_bytes + 1)
            members = _pictures(archive.infolist(), max_files, max_total_bytes)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError("This is not a zip archive, or it is damaged. Create it again.") from error
        for member in members:
            yield member.filename, _read_member(archive, member, max_bytes, max_pixels, work)


def _pictures(members: list[zipfile.ZipInfo], max_files: int, max_total: int) -> list[zipfile.ZipInfo]:
    spans = sorted((m.header_offset, m.header_offset + 30 + m.compress_size) for m in members)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise ImageError("Files in this archive overlap, as in a zip bomb. Create the archive again.")
    pictures = [
        m
        for m in members
        if not m.is_dir()
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(m.filename).parts)
    ]
    if not pictures:
        raise ImageError("This archive contains no pictures. Put JPEG or PNG files into it.")
    if len(pictures) > max_files:
        raise ImageError(
            f"This archive contains {len(pictures)} files. Split it into parts of at most {max_files}."
        )
    if sum(m.file_size for m in pictures) > max_total:  # zipfile never unpacks more than file_size
        raise ImageError(f"This archive unpacks to more than {mib(max_total)}. Split it into parts.")
    return sorted(pictures, key=lambda m: m.filename)


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int, max_pixels: int, work: Work | None
) -> Image.Image | ImageError:
    try:
        if member.flag_bits & 1:
            raise ImageError("This file is encrypted. Create the archive again without a password.")
        if member.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):  # other methods do not bound the unpacked size
            raise ImageError("This file uses a rare compression method. Create an ordinary (deflate) zip archive.")
        if work:
            work.spend(min(member.file_size, max_bytes) + member.compress_size)
        with archive.open(member) as file:
            return read_image(file, max_bytes=max_bytes, max_pixels=max_pixels, work=work)  # type: ignore[arg-type]
    except ImageError as error:
        return error
    except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, ...
        refusal = ImageError("This file is damaged inside the archive. Create the archive again.")
        refusal.__cause__ = error
        return refusal


class _CappedReads:
    """Limits the size of the central directory: zipfile creates an object for each entry before any can be counted."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.file, self.limit = file, limit

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(self.limit + 1 if size < 0 else min(size, self.limit + 1))
        if len(data) > self.limit:
            raise ImageError("This archive lists too many files. Split it into parts.")
        return data
