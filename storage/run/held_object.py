"""An object that exists while a process holds a run in an object store, with a heartbeat.

The object is only created if it is not there, and only written over in the version that was seen
last (conditional writes). So of two processes one gets it, and a holder that was silent for too
long notices that another has taken over.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict
from uuid import uuid4

from pipeline.errors import ObjectStoreError
from storage.remote.objects import ConflictError, Objects, Version
from storage.run.held_file import TOKENS_HERE, has_ended, locked
from storage.run.owner import Owner

logger = logging.getLogger(__name__)

NAME = ".lock.held"


class HeldObject:
    """The lock of the run at an address.

    Args:
        objects: of the run.
        heartbeat: seconds between two signs of life.
    """

    def __init__(self, objects: Objects, heartbeat: float) -> None:
        self._objects, self._me, self._heartbeat = objects, Owner.here(), heartbeat
        self._ended, self._beats = threading.Event(), 0
        self._version = Version("")

    def acquire(self) -> None:
        """Creates the object.

        Raises:
            RunLockedError: a process that may live holds it.
            ObjectStoreError: the store refuses or cannot be reached.
        """
        for _ in range(3):
            try:
                self._version = self._objects.create(NAME, self._text())
            except ConflictError:
                if not self._take_over():
                    continue
            TOKENS_HERE[self._objects.url] = self._me.token
            threading.Thread(target=self._beat, name="lock of the store", daemon=True).start()
            return
        raise locked(self._objects.url, holder_of(self._objects))

    def release(self) -> None:
        """Ends the heartbeat and deletes the object, if it is still this process's."""
        self._ended.set()
        if TOKENS_HERE.get(self._objects.url) == self._me.token:
            del TOKENS_HERE[self._objects.url]
        try:
            if holder_of(self._objects) == self._me:
                self._objects.delete([NAME])
        except ObjectStoreError as error:
            logger.warning("the lock stays: %s", error)

    def _take_over(self) -> bool:
        """Writes over the object of a holder that is gone. Returns whether this process has it
        now. Raises RunLockedError where the holder may live."""
        try:
            content, version = self._objects.get(NAME)
        except FileNotFoundError:
            return False
        owner = _owner_of(content)
        if owner == self._me:
            # The store did the first request, and its answer was lost.
            self._version = version
            return True
        if not has_ended(owner, self._age()):
            raise locked(self._objects.url, owner)
        try:
            self._version = self._objects.update(NAME, self._text(), version)
        except ConflictError:
            # Another process was quicker.
            return False
        return True

    def _age(self) -> float:
        """Returns the seconds since the last heartbeat, by the store's own clock; 0 if the object
        is gone."""
        probe = f"{NAME}.{uuid4().hex[:12]}.partial"
        try:
            self._objects.put(probe, b"probe")
            now = self._objects.look(probe).modified
            return (now - self._objects.look(NAME).modified).total_seconds()
        except FileNotFoundError:
            return 0.0
        finally:
            self._objects.delete([probe])

    def _text(self) -> bytes:
        # With a number that changes, every heartbeat gives the object another version.
        self._beats += 1
        return json.dumps({**asdict(self._me), "beats": self._beats}).encode()

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat):
            try:
                self._version = self._objects.update(NAME, self._text(), self._version)
            except ConflictError:
                if not self._is_mine_still():
                    return
            except ObjectStoreError as error:
                logger.warning("no heartbeat (%s)", error)

    def _is_mine_still(self) -> bool:
        """Whether the store did the last request, and only its answer was lost."""
        try:
            content, version = self._objects.get(NAME)
        except FileNotFoundError:
            content = b""
        except ObjectStoreError as error:
            logger.warning("no heartbeat (%s)", error)
            return True
        if _owner_of(content) == self._me:
            self._version = version
            return True
        if not self._ended.is_set():
            logger.warning("%s/%s: the lock was lost", self._objects.url, NAME)
        return False


def holder_of(objects: Objects) -> Owner | None:
    """Returns the process that the lock names; None if there is no lock, or it names none."""
    try:
        return _owner_of(objects.get(NAME)[0])
    except FileNotFoundError:
        return None


def _owner_of(content: bytes) -> Owner | None:
    try:
        values = json.loads(content)
        values.pop("beats")
        return Owner.of_text(json.dumps(values))
    except (ValueError, AttributeError, KeyError):
        return None
