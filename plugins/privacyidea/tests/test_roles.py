"""What privacyIDEA's administrators may do at the pages of the queue."""

from __future__ import annotations

import pytest

from pijobs_privacyidea.administrators import full_name, role_of
from pijobs_privacyidea.settings import ROLES, SETTINGS

NAMED = {
    "admin": ["root", "alice@admins"],
    "operator": ["@operators", "helpdesk@Super"],
    "viewer": ["root"],
    "helpdesk": ["@desk"],
}


@pytest.mark.parametrize(
    ("login", "realm", "role"),
    [
        ("root", "", "admin"),
        ("root", "admins", "viewer"),
        ("alice", "admins", "admin"),
        ("alice", "Admins", "admin"),
        ("alice", "", "viewer"),
        ("alice", "operators", "operator"),
        ("helpdesk", "super", "operator"),
        ("helpdesk", "other", "viewer"),
        ("bob", "desk", "helpdesk"),
        ("helpdesk", "", "viewer"),
        ("helpdesk@super", "", "viewer"),
        ("", "admins", "viewer"),
        ("nobody", "nowhere", "viewer"),
    ],
)
def test_a_role_goes_by_login_and_realm(login: str, realm: str, role: str) -> None:
    assert role_of(login, realm, NAMED) == role


def test_whom_nothing_names_is_a_viewer() -> None:
    assert role_of("root", "", {}) == "viewer"


def test_the_full_name_tells_the_realm() -> None:
    assert (full_name("helpdesk", "Super"), full_name("root", "")) == ("helpdesk@super", "root")


@pytest.mark.parametrize("value", [{"admins": ["root"]}, {"admin": "root"}, {"admin": [""]}, {"admin": ["@"]}, ["x"]])
def test_a_setting_that_can_not_be_is_refused(value: object) -> None:
    (setting,) = [one for one in SETTINGS if one is ROLES]
    assert setting.fault(value) is not None
    assert setting.fault(NAMED) is None
