"""New passwords: long, and none that a guesser tries first."""

from __future__ import annotations

import pytest

from pijobs.server.passwords import fault_of


@pytest.mark.parametrize(
    "password",
    [
        "short", "elevenchars", "password1234", "Password2026!", "!!!internet!!!", "qwertyuiop12", "1q2w3e4r5t6y",
        "123456789012", "abcdefghijkl", "lkjihgfedcba", "aaaaaaaaaaaa", "abcabcabcabc", "passwordpassword",
        "ninechars-alice-1", "ＰＡＳＳＷＯＲＤ１２３４", "systemofadown", "............",
    ],
)  # fmt: skip
def test_what_is_easy_to_guess_is_refused_and_not_told(password: str) -> None:
    fault = fault_of(password, "ninechars-alice")
    assert fault is not None and fault.startswith("expected a password")
    assert password not in fault


@pytest.mark.parametrize(
    "password",
    ["correct horse battery", "another password", "x7#Kp2mQ9vLw", "пароль и ещё слова", "\ud800" + "ab cd ef gh ij"],
)
def test_what_is_hard_to_guess_is_taken(password: str) -> None:
    assert fault_of(password, "alice") is None
