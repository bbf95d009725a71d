"""Keys are derived, known by an id, and can be replaced."""

from __future__ import annotations

from typing import Any

import pytest

from pijobs.errors import ConfigurationError, DecodeError
from pijobs.payload.keys import Key, KeyRing
from pijobs.settings import CORE_SETTINGS, Settings, validate


def settings(**values: Any) -> Settings:
    return validate(values, CORE_SETTINGS)


def test_the_same_secret_gives_the_same_key_in_every_process() -> None:
    # Written down: another value would make everything that is stored undecodable.
    assert Key("correct horse").id == Key(b"correct horse").id == "8a6ef174"
    assert Key("correct horse").lookup("key", "x") == "64d6727815c8076d0f1b643e9453a05c"


def test_the_id_and_the_representation_tell_nothing_of_the_secret() -> None:
    key = Key("correct horse")
    assert "correct" not in repr(key) and key.id in repr(key)
    assert key.id not in b"correct horse".hex()


def test_what_was_encrypted_comes_back() -> None:
    key = Key("a")
    assert key.decrypt(key.encrypt(b"plain", b"with"), b"with") == b"plain"


def test_the_same_text_is_never_sealed_alike() -> None:
    key = Key("a")
    assert len({key.encrypt(b"plain", b"") for _ in range(50)}) == 50


def test_other_associated_data_is_refused() -> None:
    sealed = Key("a").encrypt(b"plain", b"one")
    with pytest.raises(DecodeError, match="damaged"):
        Key("a").decrypt(sealed, b"two")


def test_another_key_is_refused() -> None:
    with pytest.raises(DecodeError):
        Key("b").decrypt(Key("a").encrypt(b"plain", b""), b"")


def test_every_shortened_text_is_refused() -> None:
    sealed = Key("a").encrypt(b"plain", b"")
    for length in range(len(sealed)):
        with pytest.raises(DecodeError):
            Key("a").decrypt(sealed[:length], b"")


def test_a_lookup_depends_on_key_purpose_and_value() -> None:
    found = {
        Key(secret).lookup(purpose, value)
        for secret in ("a", "b")
        for purpose, value in [("key", "x"), ("key", "y"), ("subject", "x"), ("ke", "yx"), ("key\0", "x")]
    }
    assert len(found) == 10 and all(len(text) == 32 for text in found)


def test_the_first_key_is_the_newest_and_the_others_still_open() -> None:
    old, new = KeyRing(["old"]), KeyRing(["new", "old"])
    sealed = old.newest.encrypt(b"plain", b"")
    assert new.get(old.newest.id).decrypt(sealed, b"") == b"plain"
    assert new.newest.id == Key("new").id and new.ids == (Key("new").id, Key("old").id)
    assert new.lookups("key", "x") == [new.newest.lookup("key", "x"), old.newest.lookup("key", "x")]


def test_an_unknown_key_is_told_by_its_id() -> None:
    with pytest.raises(DecodeError, match="unknown key 00000000; this process has " + Key("a").id):
        KeyRing(["a"]).get("00000000")


def test_the_secret_key_is_used_unless_keys_are_given() -> None:
    assert KeyRing.of(settings(SECRET_KEY="s")).ids == (Key("s").id,)
    assert KeyRing.of(settings(SECRET_KEY="s", PI_JOB_QUEUE_KEYS=["k", "l"])).ids == (Key("k").id, Key("l").id)


def test_the_keys_of_an_installation_are_derived_once() -> None:
    one = settings(SECRET_KEY="s")
    assert KeyRing.of(one) is KeyRing.of(one)


def test_neither_secret_key_nor_keys_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY or PI_JOB_QUEUE_KEYS, found neither"):
        KeyRing.of(settings())
