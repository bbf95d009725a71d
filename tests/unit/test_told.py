"""English texts that remember how they were made."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import flask

from pijobs import Told
from pijobs.base.redact import redact
from pijobs.base.told import Moment
from pijobs.server.pages import formatting
from pijobs.server.pages.languages import LANGUAGES, Languages, _

WAITS = Told("{what} waits for {seconds:.0f} s", what=Told("the job {name}", name="a {b}"), seconds=2.5)


def test_it_is_the_english_text_for_all_that_know_nothing_of_it() -> None:
    assert WAITS == "the job a {b} waits for 2 s"
    assert json.dumps([WAITS]) == '["the job a {b} waits for 2 s"]'
    assert (Told("{braces} of nobody"), str(Told("{error}", error=ValueError("x")))) == ("{braces} of nobody", "x")
    assert type(redact(WAITS)) is str


def test_a_copy_is_still_told() -> None:
    for one in (copy.deepcopy(WAITS), pickle.loads(pickle.dumps(WAITS))):
        assert (one, one.template, one.values) == (WAITS, WAITS.template, WAITS.values)


def test_it_keeps_no_error_alive() -> None:
    assert Told("{error}", error=ValueError("x")).values == {"error": "x"}


def test_pages_translate_it_with_the_parts_of_it_that_are_told(tmp_path: Path) -> None:
    texts = {"{what} waits for {seconds:.0f} s": "{seconds:.1f} s wartet {what}", "the job {name}": "Auftrag {name}"}
    (tmp_path / "de.json").write_text(json.dumps({**texts, "idle": "untätig", "say {what}": "sage {what}"}))
    app = flask.Flask("an_app")
    app.extensions[LANGUAGES] = Languages([tmp_path])
    with app.test_request_context(headers={"Accept-Language": "de"}):
        assert _(WAITS) == "2.5 s wartet Auftrag a {b}"
        assert _("say {what}", what=WAITS) == "sage 2.5 s wartet Auftrag a {b}"
        assert _(Told.joined("; ", ["idle", WAITS, Told("idle")])) == "idle; 2.5 s wartet Auftrag a {b}; untätig"
    with app.test_request_context(headers={"Accept-Language": "ja"}):
        assert _(WAITS) == WAITS
    assert _(WAITS) == WAITS


def test_pages_show_a_time_in_a_text_as_they_show_all_times() -> None:
    when = Moment("2020-01-02T21:06:29.785Z")
    text = Told("{what}; {reason}", what=Told("paused at {at}", at=when), reason="<b>")
    assert text == "paused at 2020-01-02T21:06:29.785Z; <b>"
    shown = f'paused at <time datetime="{when}" title="{when}">2020-01-02 21:06:29</time>; &lt;b&gt;'
    assert formatting.told(text) == shown
    assert formatting.told("{as} it is") == "{as} it is"
