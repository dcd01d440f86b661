import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from flows.orchestration.servers.connection import CHECKS, Connection, is_lost
from flows.orchestration.servers.server import ServerError


class World:
    """A server that answers as often as it is told, and a restart that does as it is told."""

    def __init__(self, answers: list[bool], restarts: bool | Exception = False) -> None:
        self.answers, self.restarts = answers, restarts
        self.asked, self.restarted = 0, 0
        self.said: list[str] = []

    def healthy(self, api: str) -> bool:
        self.asked += 1
        return self.answers.pop(0) if self.answers else False

    def restart(self, api: str, seconds: float) -> bool:
        self.restarted += 1
        if isinstance(self.restarts, Exception):
            raise self.restarts
        return self.restarts

    def connection(self) -> Connection:
        return Connection("http://here/api", self.said.append, self.healthy, self.restart, pause=0)


def test_a_server_that_is_only_slow_is_no_lost_server() -> None:
    world = World([False] * (CHECKS - 1) + [True])
    assert world.connection().present()
    assert world.restarted == 0


def test_our_own_server_is_started_again_and_the_run_says_so() -> None:
    world = World([], restarts=True)
    connection = world.connection()
    assert connection.present()
    assert world.restarted == 1
    [line] = world.said
    assert "http://here went away; it was started again" in line


@pytest.mark.parametrize("restarts", [False, ServerError("port 4200 is taken")])
def test_without_a_server_the_run_goes_on_and_says_so_once(restarts: bool | Exception) -> None:
    world = World([], restarts)
    connection = world.connection()
    calls: list[int] = []
    for _ in range(3):
        assert not connection.present()
        assert connection.tell(lambda: calls.append(1)) is None
    connection.give_up()
    assert calls == []
    assert world.restarted == 1
    [line] = world.said
    assert "continues without it" in line
    assert str(restarts) in line or restarts is False


def test_a_picture_that_prefect_does_not_take_stops_nothing() -> None:
    world = World([True, True])
    connection = world.connection()

    def lose() -> None:
        raise httpx.ConnectError("refused")

    assert connection.tell(lose) is None
    assert connection.tell(lambda: 3) == 3
    assert world.said == []


def test_errors_of_our_own_are_not_taken_for_the_servers() -> None:
    def wrong() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        World([True]).connection().tell(wrong)


def test_prefects_own_error_of_a_server_that_is_gone_is_known() -> None:
    assert is_lost(RuntimeError("Failed to reach API at http://127.0.0.1:9/api/"))
    assert is_lost(httpx.ConnectError("refused"))
    another = "a server at the same address that does not know the run"
    assert is_lost(ObjectNotFound(http_exc=ValueError(another)))
    assert not is_lost(RuntimeError("a bug"))
