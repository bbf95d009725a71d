"""The part for workers: sessions, leases and their ends, and the limits of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pijobs.errors import StorageUnavailable
from pijobs.storage import contract
from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.sql import housekeeping, leasing, limits
from pijobs.storage.sql.base import SqlBase
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.texts import storable_json, storable_name
from pijobs.storage.values import MAX_TOTALS, End, Ended, LossKind, Step


class ForWorkers(SqlBase, contract.ForWorkers):
    """The part for workers: sessions, leases and their ends, and the limits of groups."""

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self._live.transactions.look_again()
        self._run_quickly(lambda tx: housekeeping.open_session(tx, info, lease))

    def update_session(self, info: SessionInfo) -> None:
        self._run_quickly(lambda tx: housekeeping.update_session(tx, info))

    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        live = self._live
        beat = self._run_quickly(lambda tx: housekeeping.beat(tx, session, lease, abandoned, unknown))
        live.watch_room()
        with suppress(StorageUnavailable):  # the sign of life is already stored; the next one reports the outage
            self._tidying.look()
            beat.ended.extend(self._housekeeping.keep(lease))
        live.poller.kick()
        return beat

    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        live = self._live
        if not ends and self._dialect.one_writer and (empty := self._nothing_to_do(session, want, floor)):
            return empty

        def work(tx: Tx) -> Step:
            return leasing.step(tx, session, ends, want, floor)

        step = self._run_quickly(work)
        if ends:
            live.poller.kick()
        return step

    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        return self._run_quickly(lambda tx: leasing.note_progress(tx, instance_id, token, storable_json(line)))

    def _nothing_to_do(self, session: str, want: int, floor: int | None) -> Step | None:
        """Looking takes no lock, so an idle worker delays nobody."""
        outlook = self._read(lambda tx: leasing.look_out(tx, session, floor, want))
        if want > 0 and (outlook.promotable or (outlook.alive and outlook.heads)):
            return None
        return Step([], [], outlook.alarm)

    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        self._live.poller.wait(timeout, floor)

    def wake(self) -> None:
        self._live.poller.wake()

    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        ended = self._run_quickly(lambda tx: housekeeping.close_session(tx, session, crashed))
        self._live.poller.kick()
        return ended

    def note_loss(self, kind: LossKind) -> None:
        self._run(lambda tx: housekeeping.note_loss(tx, kind))

    def group(self, name: str) -> GroupRecord | None:
        return self._read(lambda tx: limits.group(tx, name))

    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        decided = {"lim": limit, "blocked_until": blocked_until, "policy": policy}

        def work(tx: Tx) -> bool:
            return limits.set_group(tx, name, version, decided, keep)

        written = self._run_quickly(work)
        self._live.poller.kick()
        return written

    def count(self, key: str, *, limit: int, per: int) -> int | None:
        return self._run_quickly(lambda tx: limits.count(tx, storable_name(key), limit=limit, per=per))

    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        if added:
            self._run_quickly(lambda tx: limits.add_totals(tx, added, period, most), timeout)
