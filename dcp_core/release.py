"""The release archive: shipped victims that are too large for the installed package.

`tools/release.py` writes the archive. The package holds a list of its files with their sizes and sha256. An archive is
unpacked into `home()` only if it has exactly these files.
"""

import hashlib
import json
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from dcp_core.files import PRECOMPUTED, home, write_atomic

LIST = PRECOMPUTED / "archive.json"
CARD = "card.json"  # a victim exists once it has its card, so this file is written last
DIRECTORY = 2**20  # bytes that a zip's list of members may add to its files
PART = 2**20  # bytes read at a time


class ReleaseError(ValueError):
    """An archive that cannot be used; the message says why and what to do."""


def listed() -> dict[str, Any]:
    """What the archive of this version holds; the repository itself needs none.

    Returns:
        `archive`, its file name, and `files`: for each path below `home()` its `bytes` and `sha256`.
    """
    return json.loads(LIST.read_text()) if LIST.exists() else {"archive": "", "files": {}}


def hint(victim: str) -> str:
    """How to get a victim that only the archive has; an empty string for any other."""
    known = listed()
    if not any(name.startswith(f"victims/{victim}/") for name in known["files"]):
        return ""
    return f"{victim} is in the release archive: download {known['archive']}, then `dcp fetch {known['archive']}`"


def fetch(source: str) -> list[str]:
    """Check an archive and unpack it into `home()`; files that are there already and the same are left alone.

    Args:
        source: the archive's path, or its address (http or https).

    Returns:
        The folders below `home()` that are complete now.

    Raises:
        ReleaseError: for an archive that cannot be read or does not hold exactly the listed files, and if `home()`
            has another file in the place of one of them. Nothing is written then.
    """
    files = listed()["files"]
    if not files:
        raise ReleaseError("There is nothing to fetch: this is the repository, with every victim in precomputed/.")
    with tempfile.TemporaryFile() as scratch:
        try:
            limit = sum(each["bytes"] for each in files.values()) + DIRECTORY
            _copy(source, scratch, limit)
            return _unpack(scratch, files)
        except ReleaseError:
            raise
        except OSError as error:  # urllib's errors too
            raise ReleaseError(f"{source} could not be fetched: {error}") from error
        except Exception as error:  # BadZipFile, struct.error, EOFError, ...
            raise ReleaseError(f"{source} is not a whole zip archive ({error}). Download it again.") from error


def _copy(source: str, scratch: BinaryIO, limit: int) -> None:
    if source.startswith(("http://", "https://")):
        opened = urllib.request.urlopen(source, timeout=60)
    else:
        opened = Path(source).expanduser().open("rb")
    with opened, tqdm(desc="reading", total=limit, unit="B", unit_scale=True) as bar:
        while part := opened.read(PART):
            bar.update(scratch.write(part))
            if scratch.tell() > limit:
                raise ReleaseError("This file is larger than the archive of this version. Download it again.")


def _unpack(file: BinaryIO, files: dict[str, dict[str, Any]]) -> list[str]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(files):
            odd = sorted(set(names) ^ set(files)) or ["a file twice"]
            raise ReleaseError(f"This is not the archive of this version of dcp: it differs in {odd[0]}.")
        missing = [name for name in files if not _is_there(name, files[name])]
        for name in files:
            _content(archive, name, files[name])
        for name in sorted(missing, key=lambda name: (Path(name).name == CARD, name)):
            content = _content(archive, name, files[name])
            write_atomic(home() / name, lambda out, content=content: out.write(content))  # type: ignore[misc]
    return sorted({str(Path(name).parent) for name in files})


def _is_there(name: str, expected: dict[str, Any]) -> bool:
    path = home() / name
    if not path.exists():
        return False
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected["sha256"]:
        raise ReleaseError(f"{path} is another file than the archive's. Move {path.parent} away and try again.")
    return True


def _content(archive: zipfile.ZipFile, name: str, expected: dict[str, Any]) -> bytes:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size != expected["bytes"]:
        raise ReleaseError(f"{name} in this archive is not packed as in the release. Download it again.")
    content = archive.read(member)
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ReleaseError(f"{name} in this archive is damaged or changed: its sha256 differs. Download it again.")
    return content
