"""Cards, JSON files that describe stored networks, and the files that a card names.

A card may come from a newer version or may have been edited. Fields that this version does not know are ignored; every
other problem raises a `VictimError` with the name of the file.

The names of files contain a part of their sha256, and the card, which refers to them, is written last. If a process is
killed between two writes, the old or the new network is complete, and never a mixture of both.
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

from dcp_core.files import read_regular, write_atomic

SHA256 = re.compile(r"[0-9a-f]{64}")
CARD_BYTES = 16 * 2**20  # largest size of a card; this program never writes a larger one
NAMED_BY = 12  # digits of the sha256 in a file's name


class VictimError(ValueError):
    """A victim is missing or cannot be used. The message says what to do next."""


class NamesFiles(Protocol):
    """A card that names files."""

    @property
    def files(self) -> Mapping[str, str]:
        """The sha256 of each file; "" if the card does not have it."""


C = TypeVar("C", bound=NamesFiles)


def read_card(path: Path, kind: type[C]) -> C:
    """The card at `path`, an instance of the dataclass `kind`; fields unknown to `kind` are ignored.

    Raises:
        VictimError: if the file cannot be read or is not JSON, or if a field is missing or has another type.
    """
    try:
        given = json.loads(read_regular(path, CARD_BYTES), parse_constant=_refuse_constant)
        if not isinstance(given, dict):
            raise ValueError("not a JSON object")
        json.dumps(given, ensure_ascii=False).encode()  # raises for text that could not be printed
        hints = get_type_hints(kind)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        names = [field.name for field in fields if field.name in given]
        always = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        if missing := [name for name in always if name not in given]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return kind(**{name: _checked(name, given[name], hints[name]) for name in names})
    except (
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:  # Overflow: integers of 400 digits
        raise VictimError(f"the card {path} is broken ({error}): make what it describes again") from error


def check_sha256(**digests: str) -> None:
    """Check that each digest is empty or a sha256. This is needed because digests become parts of file names.

    Raises:
        ValueError: with the name of an invalid digest.
    """
    for name, digest in digests.items():
        if digest and not SHA256.fullmatch(digest):
            raise ValueError(f"{name} is not a sha256")


def file_of(folder: Path, file: str, sha256: str) -> Path:
    """The path of a card's file: `weights-0123456789ab.safetensors` if it exists, otherwise `weights.safetensors`.

    Included files, and files that users put into a folder, have the plain name.
    """
    named = _named(folder / file, sha256)
    return named if sha256 and named.exists() else folder / file


def store_file(folder: Path, file: str, content: bytes) -> str:
    """Store a file under a name with a part of its sha256, and return the sha256 for the card."""
    digest = hashlib.sha256(content).hexdigest()
    write_atomic(_named(folder / file, digest), lambda handle: handle.write(content))
    return digest


def replace_card(path: Path, card: NamesFiles) -> None:
    """Write a card whose files are already stored; then remove the files that only the previous card named."""
    folder, old = path.parent, set[Path]()
    with suppress(VictimError):  # the files of a damaged card are unknown, so they stay
        if path.exists():
            previous = read_card(path, type(card))
            old = {file_of(folder, file, digest) for file, digest in previous.files.items()}
    text = json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False)  # type: ignore[call-overload]
    write_atomic(path, lambda file: file.write(text.encode()))
    for each in old - {file_of(folder, file, digest) for file, digest in card.files.items() if digest}:
        if each.parent == folder:  # an edited card might name files in other folders
            each.unlink(missing_ok=True)


def read_file(path: Path, sha256: str) -> bytes:
    """The content of a card's file.

    Raises:
        VictimError: if the file cannot be read, or its content does not have the sha256 of the card.
    """
    try:
        content = read_regular(path)
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
    """Check that a field's value has the declared type, and return it."""
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
