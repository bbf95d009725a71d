"""Promise 1: once ``enqueue`` returned, the job ends, whatever process is killed, and you can look up how."""

from __future__ import annotations

from promises.otp_job import Wire

from pijobs.testing.simulation.bad_worlds import BadWorld, BadWorlds


def test_an_otp_is_sent_though_workers_are_killed_and_storages_go_away(bad_worlds: BadWorlds, wire: Wire) -> None:
    def two_people_sign_in(world: BadWorld) -> None:
        wire.sent.clear()
        world.call("otp.send", {"to": "ada@example.com", "code": "111111"}, at=1)
        world.call("otp.send", {"to": "grace@example.com", "code": "222222"}, at=5)
        for code, instance in zip(("111111", "222222"), world.run(), strict=True):
            # "refused" and "unknown" were told to the caller as an error; all else ends, and can be looked up.
            assert instance.state in ("done", "expired", "dead", "refused", "unknown")
            if instance.state == "done":
                assert code in wire.sent
            # Twice only if a worker was cut off while it ran, or an answer got lost.
            assert wire.sent.count(code) <= instance.may_have_run

    bad_worlds(two_people_sign_in, worlds=25)
