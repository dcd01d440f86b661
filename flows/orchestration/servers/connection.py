"""The connection of a run to its Prefect server, which can be lost at any time.

The ledger decides what is done, so a lost server costs no work. A local server is started again at
the same address, where it still knows the run. If that fails, the run continues without a server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL

from flows.orchestration.servers import server
from flows.orchestration.servers.background import HERE

logger = logging.getLogger(__name__)

CHECKS = 3
"""A server that is busy may miss one; a missed check takes two seconds."""

RESTART_SECONDS = 60.0

LOST = (httpx.HTTPError, ConnectionError, ObjectNotFound)
"""What Prefect's client raises, after its retries, where no server answers, or one that does not
know the run: another one may have taken the address."""

_UNREACHED = "Failed to reach API"
"""How Prefect's own error begins where its server does not answer as a flow begins."""

T = TypeVar("T")


def is_lost(error: BaseException) -> bool:
    """Whether an error of Prefect's client means that its server is gone."""
    return isinstance(error, LOST) or (
        isinstance(error, RuntimeError) and str(error).startswith(_UNREACHED)
    )


class Connection:
    """Knows whether the Prefect server can be reached.

    Args:
        api: address of the server's API.
        say: prints a line, once, if the server is lost.
        healthy: whether an API answers.
        restart: starts the local server of that API again; False if it is not ours.
        pause: seconds between two checks.

    Attributes:
        lost: the server is lost for good; it is not asked again.
    """

    def __init__(
        self,
        api: str,
        say: Callable[[str], None],
        healthy: Callable[[str], bool] = server.is_healthy,
        restart: Callable[[str, float], bool] = server.restart,
        pause: float = 0.5,
    ) -> None:
        self.lost = False
        self._api, self._say = api, say
        self._healthy, self._restart, self._pause = healthy, restart, pause
        # Its background services would tell the terminal of events that they cannot send.
        logging.getLogger("prefect.events.clients").setLevel(logging.CRITICAL)

    @classmethod
    def of_settings(cls, say: Callable[[str], None]) -> Connection:
        """The connection to the server that Prefect's settings name.

        Without an address Prefect runs a server inside this process, which is always there.
        """
        api = PREFECT_API_URL.value()
        return cls(api, say) if api else cls("", say, healthy=lambda api: True)

    @property
    def of_this_machine(self) -> bool:
        """Whether no other machine can reach the server."""
        return not self._api or urlsplit(self._api).hostname in HERE

    def present(self) -> bool:
        """Whether the server answers. Starts it again if necessary."""
        if self.lost:
            return False
        self.lost = not self._answers() and not self._fix()
        return not self.lost

    def tell(self, call: Callable[[], T]) -> T | None:
        """Makes a call that only serves the UI. None if the server is lost or refuses it."""
        if not self.present():
            return None
        try:
            return call()
        except (*LOST, PrefectException) as error:
            logger.warning("Prefect did not take a part of the run's picture: %s", error)
            return None

    def give_up(self) -> None:
        """Stops asking for the server."""
        if not self.lost:
            self.lost = True
            self._say_gone("it did not take the run")

    def _answers(self) -> bool:
        for check in range(CHECKS):
            if check:
                time.sleep(self._pause)
            if self._healthy(self._api):
                return True
        return False

    def _fix(self) -> bool:
        where = self._api.removesuffix("/api")
        try:
            if self._restart(self._api, RESTART_SECONDS):
                self._say(f"The Prefect server at {where} went away; it was started again.")
                return True
            reason = "it is not one that was started here"
        except server.ServerError as error:
            reason = str(error)
        self._say_gone(reason)
        return False

    def _say_gone(self, reason: str) -> None:
        where = self._api.removesuffix("/api")
        self._say(
            f"The Prefect server at {where} went away and does not come back ({reason}); the run"
            " continues without it. Finished work is kept in the ledger."
        )
