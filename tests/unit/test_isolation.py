"""An instance whose worker crashed before runs alone in its process."""

from __future__ import annotations

import threading

from pijobs.worker.isolation import Isolation


def test_who_is_alone_enters_at_once_and_keeps_the_others_out() -> None:
    isolation = Isolation(lambda: 1)
    assert isolation.enter("mine")
    assert isolation.is_wanted()
    assert isolation.belongs_to_another("other") and not isolation.belongs_to_another("mine")
    assert not isolation.enter("other", patience=0.01)
    isolation.leave("other")
    assert isolation.is_wanted()
    isolation.leave("mine")
    assert not isolation.is_wanted() and not isolation.belongs_to_another("other")


def test_it_waits_until_the_others_have_ended() -> None:
    running = [3]
    isolation = Isolation(lambda: running[0])
    entered = threading.Event()

    def enter() -> None:
        if isolation.enter("mine", 30):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.05) and isolation.is_wanted()
    running[0] = 1
    assert entered.wait(120)
    thread.join()


def test_who_waits_too_long_gives_up_and_lets_the_others_begin() -> None:
    isolation = Isolation(lambda: 2)
    assert not isolation.enter("mine", patience=0.01)
    assert not isolation.is_wanted()


def test_the_others_wait_for_its_end() -> None:
    isolation = Isolation(lambda: 1)
    isolation.enter("mine")
    thread = threading.Thread(target=isolation.wait, args=(30,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    isolation.leave("mine")
    thread.join(120)
    assert not thread.is_alive()
