"""Guides: what AM, MAD or GRAD^2 compute from a victim's test pictures, stored beside the victim.

With a stored guide, a trade-off curve needs neither the pictures nor a network. The victims `signs-resnet8` and
`cifar10-resnet20` come with the guides for the default parameters of each defense.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save
from torch import Tensor

from dcp_core.data.datasets import load
from dcp_core.defenses.model_based import ModelBased
from dcp_core.files import home, read_regular, write_atomic
from dcp_core.models import auxiliary, zoo
from dcp_core.models.inference import to_pixels

ROWS = 64  # number of pictures between two reports of progress


def guide_of_test_set(
    victim: str,
    defense: ModelBased,
    *,
    seed: int = 0,
    root: Path | None = None,
    progress: Callable[[float], object] | None = None,
) -> Tensor:
    """A defense's guide (N, K) for a victim's whole test set. It is read if it is stored, else computed and stored.

    Args:
        defense: the defense, with or without its second network. The guide does not depend on its strength.
        seed: seed of a randomised defense. Its guide is not stored.
        root: folder of victims in which to store; by default `home()/victims`.
        progress: called with the share done, 0 to 1, while the guide is computed, which may take a minute.

    Raises:
        ValueError: if the second network is missing or the test pictures are not on this machine. The message names the
            command that makes or downloads them.
    """
    logits, _ = zoo.test_answers(victim)
    y = logits.softmax(-1)
    if defense.needs is None:
        return defense.guide(y, y, torch.Generator().manual_seed(seed))
    name = _file_name(victim, defense)
    for folder in reversed(zoo.roots()):
        if (folder / victim / name).exists():
            return _read(folder / victim / name)
    known = zoo.card(victim)
    loaded = defense.armed(auxiliary.load(victim, defense.needs))
    images = load(known.dataset, "test", size=known.size).images
    parts = []
    for start in range(0, len(y), ROWS):
        part = slice(start, start + ROWS)
        parts.append(loaded.guide(y[part], to_pixels(images[part])))
        if progress:
            progress(min(1.0, (start + ROWS) / len(y)))
    guide = torch.cat(parts)
    path = (root or home() / "victims") / victim / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save({"guide": guide})
    write_atomic(path, lambda file: file.write(content))
    return guide


def _file_name(victim: str, defense: ModelBased) -> str:
    """The file name has a hash of all that a guide depends on: parameters of the defense, and both networks."""
    assert defense.needs is not None
    about = auxiliary.card(victim, defense.needs)
    depends_on = {
        "settings": {
            key: getattr(defense, key) for key, declared in defense.parameters().items() if declared.guides
        },
        "victim": zoo.card(victim).sha256,
        "network": about.sha256 if about else defense.needs,
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:8]
    return f"guide-{defense.name}-{digest}.safetensors"


def _read(path: Path) -> Tensor:
    try:
        return load_bytes(read_regular(path))["guide"]
    except (OSError, SafetensorError, KeyError) as error:
        raise zoo.VictimError(f"{path} is damaged ({error}): delete it, and it will be computed again") from error
