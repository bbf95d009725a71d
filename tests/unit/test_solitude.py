"""An instance whose worker crashed before runs alone in its process."""

from __future__ import annotations

import threading

from pijobs.worker.solitude import Solitude


def test_who_is_alone_enters_at_once_and_keeps_the_others_out() -> None:
    solitude = Solitude(lambda: 1)
    assert solitude.enter("mine")
    assert solitude.is_wanted()
    assert solitude.belongs_to_another("other") and not solitude.belongs_to_another("mine")
    assert not solitude.enter("other", patience=0.01)
    solitude.leave("other")
    assert solitude.is_wanted()
    solitude.leave("mine")
    assert not solitude.is_wanted() and not solitude.belongs_to_another("other")


def test_it_waits_until_the_others_have_ended() -> None:
    running = [3]
    solitude = Solitude(lambda: running[0])
    entered = threading.Event()

    def enter() -> None:
        if solitude.enter("mine", 30):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.05) and solitude.is_wanted()
    running[0] = 1
    assert entered.wait(120)
    thread.join()


def test_who_waits_too_long_gives_up_and_lets_the_others_begin() -> None:
    solitude = Solitude(lambda: 2)
    assert not solitude.enter("mine", patience=0.01)
    assert not solitude.is_wanted()


def test_the_others_wait_for_its_end() -> None:
    solitude = Solitude(lambda: 1)
    solitude.enter("mine")
    thread = threading.Thread(target=solitude.wait, args=(30,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    solitude.leave("mine")
    thread.join(120)
    assert not thread.is_alive()
