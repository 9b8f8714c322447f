"""API keys: which clients may send requests, and how many pictures a day.

The file `DCP_HOME/api/keys.json` has one entry for each key, with its SHA-256 instead of the key. A key has 256 random bits,
so a slow hash would add nothing. A running server notices changes of the file.
"""

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dcp_core.files import home, read_object, write_atomic

PREFIX = "dcp_"
QUOTA = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_MOST_BYTES = 16 * 2**20


class KeyFileError(ValueError):
    """The file of keys cannot be used. The message says what to do."""


@dataclass(frozen=True)
class Key:
    """The entry of one client's key. The key itself is not stored."""

    name: str
    sha256: str
    quota: int  # pictures a day (UTC)
    operator: bool  # may read /metrics and /watch from any address
    created: str  # ISO 8601, UTC
    revoked: str | None = None


class Keys:
    """The file of keys. It is read again when it has changed."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home() / "api" / "keys.json"
        self._read: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """All keys in the order in which they were added, also those that were revoked.

        Raises:
            KeyFileError: if the file is damaged.
        """
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._keys, self._read = {}, None
            return []
        if self._read != (state.st_mtime_ns, state.st_ino):
            try:
                entries = read_object(self.path, _MOST_BYTES)["keys"]
                self._keys = {entry["name"]: _checked(Key(**entry)) for entry in entries}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise KeyFileError(
                    f"{self.path} is damaged: restore it, or delete it and add the keys again with `dcp keys add`"
                ) from error
            self._read = state.st_mtime_ns, state.st_ino
        return list(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The valid key with this secret; None if there is none."""
        digest = _sha256(secret)
        found = [key for key in self.all() if secrets.compare_digest(key.sha256, digest) and key.revoked is None]
        return found[0] if found else None

    def add(self, name: str, quota: int = QUOTA, operator: bool = False) -> str:
        """Add a key and return its secret, which is stored nowhere.

        Raises:
            ValueError: for a name that is taken or has unusual characters, or a quota below 0.
        """
        if not _NAME.fullmatch(name):
            raise ValueError("A name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit.")
        if quota < 0:
            raise ValueError("A quota is at least 0 pictures a day.")
        keys = self.all()
        if any(key.name == name for key in keys):
            raise ValueError(f"There is a key named {name} already: choose another name.")
        secret = PREFIX + secrets.token_urlsafe(32)
        self._write([*keys, Key(name, _sha256(secret), quota, operator, _now())])
        return secret

    def revoke(self, name: str) -> None:
        """Make a key invalid. Its name stays taken.

        Raises:
            ValueError: if there is no valid key with this name.
        """
        keys = self.all()
        if not any(key.name == name and key.revoked is None for key in keys):
            raise ValueError(f"There is no valid key named {name}: `dcp keys list` shows all.")
        self._write([replace(key, revoked=_now()) if key.name == name else key for key in keys])

    def _write(self, keys: list[Key]) -> None:
        text = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1)
        write_atomic(self.path, lambda file: file.write(text.encode()))


def _checked(key: Key) -> Key:
    right = isinstance(key.name, str) and isinstance(key.sha256, str) and type(key.quota) is int and key.quota >= 0
    if not (right and type(key.operator) is bool and (key.revoked is None or isinstance(key.revoked, str))):
        raise ValueError(f"the key {key.name} has values of the wrong type")
    return key


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
