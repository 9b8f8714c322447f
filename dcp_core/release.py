"""The release archive: victims of this repository that are too large for the installed package.

`tools/release.py` writes the archive. The installed package has a list of its files with sizes and sha256. An archive is
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
CARD = "card.json"  # written last, because a folder with a card counts as a complete victim
DIRECTORY = 2**20  # largest size in bytes that the zip's own list of members adds
PART = 2**20  # bytes per read


class ReleaseError(ValueError):
    """A release archive that cannot be used. The message says why and what to do."""


def listed() -> dict[str, Any]:
    """The content of this version's archive. A checkout of the repository has all victims, so its list is empty.

    Returns:
        `archive`: its file name. `files`: for each path below `home()` its `bytes` and `sha256`.
    """
    return json.loads(LIST.read_text()) if LIST.exists() else {"archive": "", "files": {}}


def hint(victim: str) -> str:
    """A sentence on how to get a victim of the release archive. Empty if the victim is not in the archive."""
    known = listed()
    if not any(name.startswith(f"victims/{victim}/") for name in known["files"]):
        return ""
    return f"{victim} is in the release archive: download {known['archive']}, then `dcp fetch {known['archive']}`"


def fetch(source: str) -> list[str]:
    """Check an archive and unpack it into `home()`. Files that are already there and equal are not written again.

    Args:
        source: path or URL (http or https) of the archive.

    Returns:
        The unpacked folders, relative to `home()`.

    Raises:
        ReleaseError: if the archive cannot be read or does not have exactly the listed files, or if `home()` has a
            different file at the place of one of them. Nothing is written then.
    """
    files = listed()["files"]
    if not files:
        raise ReleaseError(
            "Nothing to fetch: this is a checkout of the repository, which has every victim in precomputed/."
        )
    with tempfile.TemporaryFile() as scratch:
        try:
            limit = sum(each["bytes"] for each in files.values()) + DIRECTORY
            _copy(source, scratch, limit)
            return _unpack(scratch, files)
        except ReleaseError:
            raise
        except OSError as error:  # includes the errors of urllib
            raise ReleaseError(f"{source} could not be read: {error}. Check the path or the URL.") from error
        except Exception as error:  # BadZipFile, struct.error, EOFError, ...
            raise ReleaseError(f"{source} is not a complete zip archive ({error}). Download it again.") from error


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
            odd = sorted(set(names) ^ set(files)) or ["a file that it has twice"]
            raise ReleaseError(
                f"This is not the archive of this version of dcp, it differs in {odd[0]}. "
                f"Download {listed()['archive']}."
            )
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
        raise ReleaseError(f"{path} differs from the file in the archive. Move {path.parent} away and try again.")
    return True


def _content(archive: zipfile.ZipFile, name: str, expected: dict[str, Any]) -> bytes:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size != expected["bytes"]:
        raise ReleaseError(f"{name} in this archive is not packed as in the release. Download it again.")
    content = archive.read(member)
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ReleaseError(f"{name} in this archive is damaged or changed: its sha256 differs. Download it again.")
    return content
