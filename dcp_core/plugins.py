"""Load defenses and attacks from outside this package.

The environment variable `DCP_PLUGINS` has names of Python modules, separated by commas. Every process of this project
imports them together with `dcp_core`. A module registers its classes with `defenses.register` and `attacks.register`.
"""

import os
import warnings
from importlib import import_module


def load() -> None:
    """Import the modules of `DCP_PLUGINS`. If one cannot be imported, it is skipped with a warning."""
    for name in filter(None, map(str.strip, os.environ.get("DCP_PLUGINS", "").split(","))):
        try:
            import_module(name)
        except Exception as error:  # any error of a plugin must not stop the package
            warnings.warn(
                f"DCP_PLUGINS names {name}, which cannot be imported: {error}. "
                "Correct the module or remove its name from DCP_PLUGINS.",
                stacklevel=2,
            )
