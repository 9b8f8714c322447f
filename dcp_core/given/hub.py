"""Models and data sets of the Hugging Face Hub: only their numbers and pictures are downloaded, never code.

`hf:OWNER/NAME` is a model, `timm:NAME` the model `hf:timm/NAME`, and `hf-dataset:OWNER/NAME` a data set of pictures. Each
can end in `@REVISION`: a branch, a tag or a commit. The commit that was used is always reported.

`huggingface_hub`, which is optional, downloads into its cache and uses what is there. With HF_HUB_OFFLINE=1 it uses only
that.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from dcp_core.data.folders import SUFFIXES
from dcp_core.models.given_onnx import MOST_BYTES

MODEL_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
MOST_PICTURES = 2 * 2**30  # largest size of a data set's files in bytes
SPLITS = ("test", "val", "train")  # the first that a data set has is used; "val" also stands for "validation"
_PLACE = re.compile(r"(hf|timm|hf-dataset):((?:[\w.-]+/)?[\w.-]+)(?:@([\w./-]+))?")


class HubError(ValueError):
    """A model or data set cannot be downloaded from the Hub. The message says why, and what to do."""


@dataclass(frozen=True)
class Place:
    """A repository of the Hub: its kind ("model" or "dataset"), name, and revision if one was given."""

    kind: str
    name: str
    revision: str | None


def place(where: str) -> Place | None:
    """The repository that a text such as `hf:OWNER/NAME@REVISION` names; None for a path.

    Raises:
        HubError: for a text that begins like a place on the Hub, but is none.
    """
    if not where.startswith(("hf:", "timm:", "hf-dataset:")):
        return None
    found = _PLACE.fullmatch(where)
    if found is None or (found[1] == "hf" and "/" not in found[2]) or (found[1] == "timm" and "/" in found[2]):
        raise HubError(
            f"{where!r:.100} is no place on the Hub: write hf:OWNER/NAME, timm:NAME or hf-dataset:OWNER/NAME"
        )
    name = f"timm/{found[2]}" if found[1] == "timm" else found[2]
    return Place("dataset" if found[1] == "hf-dataset" else "model", name, found[3])


def fetch_model(where: Place) -> tuple[Path, str]:
    """Download a model's configuration and safetensors weights.

    Returns:
        the folder, and what was used: "hf:OWNER/NAME@COMMIT".

    Raises:
        HubError: if it cannot be had, has no safetensors weights, or is too large.
    """
    folder = _fetched(where, MODEL_FILES, list, MOST_BYTES)
    if not (folder / "model.safetensors").is_file():
        raise HubError(f"{where.name} has no model.safetensors; weights in other formats can run code")
    return folder, f"hf:{where.name}@{folder.name}"


def fetch_pictures(where: Place) -> tuple[list[Path], str]:
    """Download the test pictures of a data set, or what it has instead: those for validation or training.

    Returns:
        Parquet files or pictures, and what was used: "hf-dataset:OWNER/NAME@COMMIT".

    Raises:
        HubError: if it cannot be had, has neither kind of files, or is too large.
    """
    folder = _fetched(where, [f"*{suffix}" for suffix in (".parquet", *SUFFIXES)], of_a_split, MOST_PICTURES)
    files = [folder / name for name in of_a_split(_names(folder))]
    if not files:
        raise HubError(f"{where.name} has neither Parquet files nor pictures")
    return files, f"hf-dataset:{where.name}@{folder.name}"


def of_a_split(names: list[str]) -> list[str]:
    """The names of the files of one split: the first of `SPLITS` that the data set has.

    They are Parquet files if the split has any, otherwise pictures. A data set without these splits gives all such files.
    """
    parquet = sorted(name for name in names if name.endswith(".parquet"))
    pictures = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    for split in SPLITS:
        for kind in (parquet, pictures):
            found = [name for name in kind if re.search(rf"(?:^|[/_-]){split}", name)]
            if found:
                return found
    return parquet or pictures


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _listed(where: Place, commit: str) -> dict[str, int] | None:
    """The sizes of all files of a commit in bytes; None without a connection."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        tree = HfApi().list_repo_tree(where.name, recursive=True, revision=commit, repo_type=where.kind)
        return {each.path: each.size for each in tree if hasattr(each, "size")}  # folders have none
    except Exception:  # its versions raise the errors of different libraries
        return None


def _fetched(where: Place, patterns: Sequence[str], choose: Callable[[list[str]], list[str]], most: int) -> Path:
    """The folder of a commit in the cache of `huggingface_hub`; its name is the commit.

    Args:
        patterns: patterns of the names of files to download.
        choose: function that selects some of these names.
        most: largest size of all files together, in bytes.
    """
    if find_spec("huggingface_hub") is None:
        raise HubError("models and data sets of the Hub need an optional library: pip install huggingface_hub")
    import huggingface_hub as hub
    from huggingface_hub import constants, errors

    asked = {"repo_id": where.name, "repo_type": where.kind, "revision": where.revision}
    try:
        # This finds the commit. The file is small and in every repository.
        folder = Path(hub.snapshot_download(**asked, allow_patterns=".gitattributes"))
        sizes = _listed(where, folder.name)
        names = _names(folder) if sizes is None else list(sizes)
        chosen = choose([name for name in names if any(fnmatch(name, pattern) for pattern in patterns)])
        if sizes is None:  # all parts of a file that has several must be here
            chosen = [re.sub(r"\d+-of-", "*-of-", name) for name in chosen]
        elif (size := sum(sizes[name] for name in chosen)) > most:
            raise HubError(
                f"{where.name} has {size / 2**30:.1f} GiB, and at most {most / 2**30:g} are taken: download a part of it, "
                "and give the folder"
            )
        if not chosen:
            raise HubError(f"{where.name} has no file such as {', '.join(patterns)}")
        return Path(hub.snapshot_download(**asked, allow_patterns=chosen))
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        raise HubError(
            f"{where.name} is not on this machine, and {why}. Try again with a connection, or download the folder "
            "elsewhere, bring it here, and give its path"
        ) from error
    except errors.RepositoryNotFoundError as error:  # also GatedRepoError
        raise HubError(
            f"the Hub has no {where.kind} {where.name}, or not for everybody: log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{where.name} has no revision {where.revision}") from error
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise HubError(f"the Hub does not give {where.name}: {(str(error).splitlines() or [''])[0]}") from error
