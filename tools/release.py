"""Build a release: add data files to the wheel, and write the archive of the victims that are not in the wheel.

The build backend runs `ShippedFiles` for every wheel. The wheel contains the dashboard, all results, the embedded victim,
and a list of the archive's files with their sha256. `python tools/release.py FOLDER` writes the archive.
"""

import hashlib
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "dcp_core/_shipped"  # folder in the wheel in which `dcp_core/files.py` looks for the files
DASHBOARD = ("app.py", "app_with_api.py", "pages", ".streamlit/config.toml")
EMBEDDED = "signs-resnet8"  # this victim and its eight-bit versions are in the wheel
LIST = "archive.json"  # read by `dcp_core/release.py`


def archived(root: Path) -> list[str]:
    """Files of the victims that are too large for the wheel, relative to `root/precomputed`, sorted."""
    folder = root / "precomputed"
    names = (path.relative_to(folder).as_posix() for path in (folder / "victims").rglob("*") if path.is_file())
    return sorted(name for name in names if not _embedded(name))


def archive_name(root: Path) -> str:
    """The file name of the archive, with the version from `dcp_core/__init__.py`."""
    version = re.search(r'^__version__ = "(.+)"$', (root / "dcp_core/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    return f"dcp-victims-{version[1]}.zip"


def checksums(root: Path) -> dict[str, Any]:
    """The archive's name, and the size in bytes and sha256 of each of its files."""
    files = {}
    for name in archived(root):
        content = (root / "precomputed" / name).read_bytes()
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"archive": archive_name(root), "files": files}


def write_archive(root: Path, folder: Path) -> Path:
    """Write the archive into `folder`, and return its path. Equal files give an equal archive on every machine."""
    path = folder / archive_name(root)
    with zipfile.ZipFile(
        path, "w", zipfile.ZIP_STORED
    ) as archive:  # uncompressed: independent of the zlib version
        for name in archived(root):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, on every system
            member.external_attr = 0o644 << 16
            archive.writestr(member, (root / "precomputed" / name).read_bytes())
    return path


class ShippedFiles(BuildHookInterface):
    """Adds the dashboard, `precomputed` without the archive's files, and the list of these files to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files. Hatchling calls this before it writes a wheel. An editable install uses the repository's files."""
        if version == "editable":
            return
        root = Path(self.root)
        included = {str(root / name): f"{INSIDE}/{name}" for name in DASHBOARD}
        left_out = set(archived(root))
        for path in sorted((root / "precomputed").rglob("*")):
            name = path.relative_to(root / "precomputed").as_posix()
            if path.is_file() and name not in left_out:
                included[str(path)] = f"{INSIDE}/precomputed/{name}"
        self.scratch = tempfile.TemporaryDirectory()
        listed = Path(self.scratch.name) / LIST
        listed.write_text(json.dumps(checksums(root), indent=1))
        included[str(listed)] = f"{INSIDE}/precomputed/{LIST}"
        build_data["force_include"] |= included

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder. Hatchling calls this after it has written a wheel."""
        if version != "editable":
            self.scratch.cleanup()


def _embedded(name: str) -> bool:
    return re.fullmatch(rf"victims/{EMBEDDED}(-ptq|-qat)?/.+", name) is not None


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(write_archive(ROOT, target))
