"""Delivery: while the store is away, events wait on this machine's disk, and are delivered when it is back.

Knows neither what events mean nor the queue.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from backend.errors import StoreError
from backend.store import Event, Store

log = logging.getLogger(__name__)

_EVERY = 2.0  # seconds between two looks whether the store is there
_AT_ONCE = 100

KeyOf = Callable[[Mapping[str, Any]], str | None]


class Delivery:
    """Keeps events durably: in the store, or, where that is away, in the spool until it is back.

    Attributes:
        away: whether the store did not answer when last asked.
    """

    def __init__(
        self, store: Store, spool: Store | None, key_of: KeyOf, delivered: Callable[[str], None]
    ) -> None:
        """Deliver to a store.

        Args:
            store: where events belong.
            spool: a store on this machine's disk; None where `store` is one itself.
            key_of: the project key that an event's body means, asked when the store is there; None for none.
            delivered: told the project key of each event that the spool gave to the store.
        """
        self._store = store
        self._spool = spool
        self._key_of = key_of
        self._delivered = delivered
        self._ended = threading.Event()
        self._given: set[int] = set()  # events of the spool that the store has
        self._stuck = False
        self._turn = threading.Lock()  # an event must not overtake those that wait on the disk
        self.away = False

    def keep(self, project: str, action: str, body: Mapping[str, Any], received: float) -> bool:
        """Keep an event; whether it is in the store already.

        Raises:
            StoreError: if it could be kept nowhere.
        """
        with self._turn:
            if self._spool is None or not self.away:
                try:
                    self._store.add_event(project, action, body, received)
                except StoreError as error:
                    if self._spool is None:
                        raise
                    self._note(away=True, why=str(error))
                else:
                    return True
            self._spool.add_event(project, action, body, received)
            return False

    def look(self) -> int:
        """See whether the store is there, and deliver what waits; how many events were delivered."""
        if self._spool is None:
            return 0
        count = 0
        with self._turn:
            try:
                self._store.note("here")
                while waiting := self._undelivered(self._spool):
                    count += sum(self._deliver(event, self._spool) for event in waiting)
                self._note(away=False)
            except StoreError as error:
                self._note(away=True, why=str(error))
            self._forget_delivered(self._spool)
        if count:
            log.info("%d events that had waited on the disk were delivered", count)
        return count

    @property
    def waiting(self) -> int:
        """Events that wait on the disk, 100 at most."""
        return len(self._undelivered(self._spool)[:_AT_ONCE]) if self._spool is not None else 0

    def start(self) -> None:
        """Look again and again in a thread of its own, until `stop`."""
        if self._spool is not None:
            threading.Thread(target=self._watch, name="delivery", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next look."""
        self._ended.set()

    def _undelivered(self, spool: Store) -> list[Event]:
        waiting = spool.pending_events(_AT_ONCE + len(self._given))
        return [event for event in waiting if event.id not in self._given]

    def _deliver(self, event: Event, spool: Store) -> bool:
        key = self._key_of(event.body)
        if key:
            self._store.add_event(key, event.action, event.body, event.received)
            self._delivered(key)
        self._given.add(event.id)
        if not self._stuck:
            self._forget_delivered(spool)
        return bool(key)

    def _forget_delivered(self, spool: Store) -> None:
        """Let go of what was delivered; a disk that takes not even that must not have it delivered again and again."""
        try:
            while self._given:
                event = min(self._given)
                spool.finish_event(event)
                self._given.discard(event)
        except StoreError as error:
            if not self._stuck:
                log.warning("events were delivered, and cannot be removed from the disk: %s", error)
            self._stuck = True
        else:
            self._stuck = False

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception:  # whatever is wrong with one event or the disk, the next look may do better
                log.exception("events that wait on the disk cannot be delivered")
            self._ended.wait(_EVERY)

    def _note(self, *, away: bool, why: str = "") -> None:
        if away and not self.away:
            log.warning("the store is away; events wait on the disk: %s", why)
        elif self.away and not away:
            log.info("the store is back")
        self.away = away
