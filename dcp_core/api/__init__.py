"""A prediction API over HTTP that answers pictures with defended posteriors. It does not reveal victim or defense.

GET  /          how to send pictures, and the classes
POST /predict   the bytes of one picture, or of a zip archive of pictures
POST /hf        the same for one picture, in the form of Hugging Face's image classification
     /v2        KServe's V2 protocol
GET  /try       a page that tries all three; /openapi.json describes them
GET  /metrics   counters for Prometheus, for the owner
GET  /watch     what each client asks, for the owner
"""

from pathlib import Path
from typing import TYPE_CHECKING

# Imported at their first use: the processes that decode need none of them, and serving an exported file needs no torch.
if TYPE_CHECKING:
    from starlette.applications import Starlette

    from dcp_core.api.keys import Keys
    from dcp_core.api.watch import Watch
    from dcp_core.defenses import Defense
    from dcp_core.models.zoo import Victim


def application(
    victim: "Victim",
    defense: "Defense",
    device: str = "cpu",
    *,
    keys: "Keys | None" = None,
    watch: "Watch | None" = None,
) -> "Starlette":
    """The API as an ASGI application.

    Pictures are decoded in processes of their own. Clients take turns, both there and at the victim, which answers a few
    pictures at a time, so that there are never more threads than cores. Randomised defenses give equal pictures equal
    answers, see `victims.behind`.

    Args:
        keys: API keys of the clients. Default: everybody may send requests, and each address counts as a client.
        watch: records the queries of each client, and says what follows from an alarm.

    Raises:
        VictimError: if the second network of the defense is missing.
    """
    from dcp_core.api.service import Service
    from dcp_core.api.victims import behind

    return Service(behind(victim, defense, device), keys, watch).application()


def file_application(path: Path, *, keys: "Keys | None" = None, watch: "Watch | None" = None) -> "Starlette":
    """The same for a file that `dcp export --for server` wrote. This imports no torch.

    Raises:
        OnnxError: if it is not such a file.
        OSError: if it cannot be read.
    """
    from dcp_core.api.engines import exported
    from dcp_core.api.service import Service

    return Service(exported(path), keys, watch).application()
