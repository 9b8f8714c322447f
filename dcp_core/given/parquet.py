"""Labelled pictures in Parquet files, in the form in which the Hugging Face Hub keeps them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dcp_core.data.datasets import DataError


def read_parquet(files: list[Path]) -> tuple[list[bytes], list[int], tuple[str, ...]]:
    """The files of all pictures, the numbers of their classes, and the names of the classes.

    The schema must say, as the library `datasets` writes it, which column has the pictures (Image) and which one their
    classes (ClassLabel). If several do, the first of each is taken. Rows without a picture or class are left out.

    Raises:
        DataError: if a file cannot be read, or has no such columns.
    """
    items: list[bytes] = []
    labels: list[int] = []
    names: tuple[str, ...] = ()
    for path in files:
        try:
            features = _features(pq.read_schema(path))
            image, label = (_first(features, kind) for kind in ("Image", "ClassLabel"))
            if image is None or label is None:
                raise DataError(f"{path.name} has no column of pictures, or none of their classes")
            names = tuple(map(str, features[label]["names"]))
            rows = pq.read_table(path, columns=[image, label])
        except DataError:
            raise
        except Exception as error:  # a damaged file raises many types of error
            raise DataError(f"{path.name} is not a readable Parquet file ({error})") from error
        for each, number in zip(rows[image].to_pylist(), rows[label].to_pylist(), strict=True):
            if isinstance(each, dict) and each.get("bytes") and number is not None and 0 <= number < len(names):
                items.append(each["bytes"])
                labels.append(number)
    if not items:
        raise DataError("the Parquet files have no pictures with a class")
    return items, labels, names


def _features(schema: Any) -> dict[str, Any]:
    """The description of the columns that the library `datasets` stored in the schema; empty if there is none."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {name: about for name, about in features.items() if isinstance(about, dict) and name in schema.names}


def _first(features: dict[str, Any], kind: str) -> str | None:
    return next((name for name, about in features.items() if about.get("_type") == kind), None)
