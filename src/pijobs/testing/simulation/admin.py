"""The admin of a history."""

from __future__ import annotations

import contextlib

from pijobs.errors import InstanceNotFound, PijobsError, StateConflict
from pijobs.request.queue import Queue
from pijobs.storage import protocol
from pijobs.storage.contract import Storage
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.cast import Cast
from pijobs.testing.simulation.lights import Lights
from pijobs.testing.simulation.plan import PAUSE, Act
from pijobs.testing.simulation.world import World


class Admin:
    """Pauses, retries, cancels and removes instances from its own process, and upgrades the workers."""

    def __init__(self, cast: Cast, books: Books, world: World, lights: Lights) -> None:
        self.cast, self.books, self.world, self.lights = cast, books, world, lights
        self.left = len(cast.plan.acts)

    def begin(self) -> None:
        process = self.world.process("admin", self.cast.hosts[0])

        def act() -> None:
            queue = self.cast.queue(process)
            for one in self.cast.plan.acts:
                self.world.pause(one.at - self.world.now)
                with contextlib.suppress(PijobsError):
                    self._act(queue, one)
                self.left -= 1

        self.world.start(process, act, "admin")

    def _upgrade_schema(self, storage: Storage) -> None:
        """Upgrade as the command does, which finds workers of an older release, but no servers."""
        if all(session.info.protocol == protocol.NEWEST for session in storage.sessions()):
            self.world.tell("takes the newer protocol into use")
            storage.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)

    def _act(self, queue: Queue, act: Act) -> None:
        assert queue.storage is not None
        if act.what == "new release":
            self.world.tell("brings a new release to the workers")
            self.cast.upgrade_workers()
            return
        if act.what == "schema upgrade":
            self._upgrade_schema(queue.storage)
            return
        if act.what.startswith("pause"):
            group = f"at {act.place}" if act.place else None
            self.world.tell(f"pauses {group or 'the queue'}")
            queue.storage.pause(group)
            self.lights.look_at_pause()
            self.world.pause(PAUSE)
            queue.storage.resume(group)
            return
        entry = self.books.entries.get(act.number)
        if entry is None or entry.id is None:
            return
        self.world.tell(f"{act.what} {entry}")
        # Note the request before the call: it may succeed although its answer is lost.
        entry.cancelled |= act.what == "cancel"
        entry.retried += act.what == "retry"
        before, entry.removed = entry.removed, entry.removed or act.what == "remove"
        try:
            getattr(queue, act.what)(entry.id)
        except (InstanceNotFound, StateConflict):
            entry.removed = before
            raise
