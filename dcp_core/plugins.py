"""Defenses and attacks from outside this package.

The environment variable `DCP_PLUGINS` names Python modules, separated by commas. Each is imported with `dcp_core`, in
every process of ours, and registers its classes with `defenses.register` and `attacks.register`.
"""

import os
import warnings
from importlib import import_module


def load() -> None:
    """Import the modules of `DCP_PLUGINS`; one that cannot be imported is left out with a warning."""
    for name in filter(None, map(str.strip, os.environ.get("DCP_PLUGINS", "").split(","))):
        try:
            import_module(name)
        except Exception as error:  # whatever it is, the rest of the package works without it
            warnings.warn(f"DCP_PLUGINS names {name}, which cannot be imported: {error}", stacklevel=2)
