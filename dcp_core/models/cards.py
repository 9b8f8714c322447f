"""Cards, JSON files that describe stored networks, and the files that a card names.

A card is read with care, because it may come from a newer version or have been edited by hand: fields that this version
does not know are ignored, and everything else that is wrong raises a `VictimError` that names the file.

Files are named by their content, and the card, which says which ones count, is written last: a process that is killed
between two writes leaves the old network or the new one, never a mixture.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_type_hints

from dcp_core.files import write_atomic

SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED_BY = 12  # digits of the sha256 in a file's name


class VictimError(ValueError):
    """A victim is missing or unusable; the message says what to do next."""


class NamesFiles(Protocol):
    """A card that names files."""

    @property
    def files(self) -> Mapping[str, str]:
        """The sha256 of each file, "" where the card does not know it."""


C = TypeVar("C", bound=NamesFiles)


def read_card(path: Path, kind: type[C]) -> C:
    """The card at `path`, an instance of the dataclass `kind`; fields unknown to `kind` are ignored.

    Raises:
        VictimError: for a file that cannot be read, is not JSON, lacks a field or has one of another type.
    """
    try:
        given = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
        if not isinstance(given, dict):
            raise ValueError("not a JSON object")
        json.dumps(given, ensure_ascii=False).encode()  # raises for text that could not be printed
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in given]  # type: ignore[arg-type]
        return kind(**{name: _checked(name, given[name], hints[name]) for name in names})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise VictimError(f"the card {path} is broken ({error}): make what it describes again") from error


def check_sha256(**digests: str) -> None:
    """Refuse a digest that is neither empty nor a sha256: it becomes part of a file's name.

    Raises:
        ValueError: which names it.
    """
    for name, digest in digests.items():
        if digest and not SHA256.fullmatch(digest):
            raise ValueError(f"{name} is not a sha256")


def file_of(folder: Path, file: str, sha256: str) -> Path:
    """Where a card's file is: `weights-0123456789ab.safetensors`, or plainly `weights.safetensors`.

    The plain name is that of shipped files and of files which a person put there.
    """
    named = _named(folder / file, sha256)
    return named if sha256 and named.exists() else folder / file


def store_file(folder: Path, file: str, content: bytes) -> str:
    """Store a file under a name that belongs to its content alone; its sha256, for the card."""
    digest = hashlib.sha256(content).hexdigest()
    write_atomic(_named(folder / file, digest), lambda handle: handle.write(content))
    return digest


def replace_card(path: Path, card: NamesFiles) -> None:
    """Make a card, whose files are stored already, the one that counts; then remove what only its predecessor named."""
    folder, old = path.parent, set[Path]()
    with suppress(VictimError):  # what a broken card named is unknown, and stays
        if path.exists():
            previous = read_card(path, type(card))
            old = {file_of(folder, file, digest) for file, digest in previous.files.items()}
    text = json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False)  # type: ignore[call-overload]
    write_atomic(path, lambda file: file.write(text.encode()))
    for each in old - {file_of(folder, file, digest) for file, digest in card.files.items() if digest}:
        if each.parent == folder:  # a card edited by hand might name files elsewhere
            each.unlink(missing_ok=True)


def read_file(path: Path, sha256: str) -> bytes:
    """The content of a file that a card describes.

    Raises:
        VictimError: for a file that cannot be read or has other content.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VictimError(f"{path} cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise VictimError(f"{path} is not the file that its card describes (its sha256 is {digest[:12]}...)")
    return content


def _named(path: Path, sha256: str) -> Path:
    return path.with_name(f"{path.stem}-{sha256[:NAMED_BY]}{path.suffix}")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _checked(name: str, value: Any, hint: Any) -> Any:
    """A field's value, if it is what the dataclass declares."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    words: dict[Any, tuple[bool, str]] = {
        str: (isinstance(value, str), "text"),
        int: (number and isinstance(value, int), "a whole number from 0"),
        float: (number, "a number from 0"),
        float | None: (number or value is None, "a number from 0, or null"),
        dict[str, Any]: (isinstance(value, dict), "an object"),
        dict[str, str]: (
            isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
            "an object of texts",
        ),
        tuple[str, ...]: (
            isinstance(value, list) and len(value) > 0 and all(isinstance(each, str) for each in value),
            "a list of texts, at least one",
        ),
    }
    good, expected = words[hint]
    if not good:
        raise ValueError(f"{name} must be {expected}")
    return tuple(value) if isinstance(value, list) else value
