"""The fair queue."""

import anyio
import pytest
from starlette.exceptions import HTTPException

from dcp_core.api.turns import Turns


def order(arrivals: str, *, at_once: int = 1, of_one: int | None = None) -> str:
    """The order in which the requests of clients, a letter each, get their turns if all arrive while the first runs."""
    served: list[str] = []

    async def ask(turns: Turns, client: str, done: anyio.Event) -> None:
        async with turns.turn(client):
            served.append(client)
            await done.wait()

    async def main() -> None:
        turns, done = Turns(at_once, of_one), anyio.Event()
        async with anyio.create_task_group() as tasks:
            for client in arrivals:
                tasks.start_soon(ask, turns, client, done)
                await anyio.wait_all_tasks_blocked()
            served.append("|")
            done.set()

    anyio.run(main)
    return "".join(served)


def test_clients_take_turns_however_many_requests_each_sends() -> None:
    assert order("AAAABC") == "A|ABCAA"
    assert order("AAABBB", at_once=2) == "AA|BABB"


def test_a_place_is_kept_for_another_client() -> None:
    assert order("AAAB", at_once=2, of_one=1) == "AB|AA"


def test_a_request_that_is_given_up_while_it_waits_is_forgotten() -> None:
    async def main() -> None:
        turns = Turns(1)
        async with turns.turn("A"):
            with anyio.move_on_after(0.01):
                async with turns.turn("B"):
                    pytest.fail("two turns at once")
            assert not turns.waiting
        async with turns.turn("C"):
            assert turns.running == {"C": 1}
        assert not turns.running

    anyio.run(main)


def test_too_many_waiting_requests_of_one_client_are_refused_and_others_are_not() -> None:
    async def main() -> None:
        turns = Turns(1, waiting=1)
        async with turns.turn("A"), anyio.create_task_group() as tasks:

            async def wait(client: str) -> None:
                async with turns.turn(client):
                    pass

            tasks.start_soon(wait, "A")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(HTTPException, match="429"):
                await wait("A")
            tasks.start_soon(wait, "B")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(main)
