"""A victim behind a defense, as the API's engine. It needs torch."""

import hashlib
import hmac
import os
import secrets

import numpy as np
import torch
from torch import Tensor

from dcp_core.api.engines import Engine
from dcp_core.defenses import Defense
from dcp_core.files import home
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.models.zoo import Victim

KEY_BYTES = 32


def behind(victim: Victim, defense: Defense, device: str = "cpu") -> Engine:
    """A victim behind a defense.

    A randomised defense gets its random numbers from each picture and a secret key. So equal pictures get equal answers,
    and a thief who repeats a query cannot average the noise away. All servers of one `DCP_HOME` have the same key.

    Raises:
        VictimError: if the second network of the defense is missing.
        OSError: if the key cannot be read or written.
    """
    armed = arm(defense, victim.card.name, device)
    key = noise_key() if armed.randomised else b""

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = torch.from_numpy(pixels)
        logits = predict(victim.model, inputs)
        if armed.randomised:
            each = zip(logits.split(1), inputs.split(1), strict=True)
            defended = torch.cat(
                [armed(logits=row, inputs=picture, generator=_noise(key, picture)) for row, picture in each]
            )
        else:
            defended = armed(logits=logits, inputs=inputs)
        return logits.softmax(-1).numpy(), defended.float().numpy()

    return Engine(victim.card.classes, victim.card.size, answer)


def _noise(key: bytes, picture: Tensor) -> torch.Generator:
    """A random generator seeded from the 8-bit pixels of a picture (1, 3, H, W) and the secret key."""
    digest = hmac.digest(key, (picture * 255).round().byte().numpy().tobytes(), hashlib.sha256)
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def noise_key() -> bytes:
    """The secret key of this `DCP_HOME`, which is made at its first use.

    Raises:
        OSError: if it cannot be read or written.
    """
    path = home() / "api" / "noise.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    except FileExistsError:
        pass
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OSError(f"{path} is damaged: delete it, and the server makes another")
    return key
