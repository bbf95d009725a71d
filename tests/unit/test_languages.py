"""Each text of the pages stands in the files of other languages, and no others do."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import flask
import jinja2
import pytest
from jinja2 import nodes

from pijobs.definitions.declaration import Declaration
from pijobs.jobs import State
from pijobs.observe import people
from pijobs.server.accounts import ROLES
from pijobs.server.exposition import BREAKERS
from pijobs.server.pages import timeline
from pijobs.server.pages.formatting import count, duration, label, subject
from pijobs.server.pages.jobs import TIMES
from pijobs.server.pages.languages import LANGUAGES, Languages, _
from pijobs_mail.pages import NAMES
from pijobs_mail.servers import definitions as servers
from pijobs_mail.servers import presets as mail_presets
from pijobs_sms import gateways, http, smtp
from pijobs_sms import presets as sms_presets
from pijobs_sms.smpp import provider as smpp
from pijobs_statistics.pages import SPANS

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "src/pijobs/server", *sorted(ROOT.glob("plugins/*/src/pijobs_*"))]
#: Arguments of definition_pages() and Page() that are shown.
SHOWN = ("nothing_known", "title", "thing", "recipient", "things", "columns", "alarm")


def of_templates(folder: Path) -> Iterator[str]:
    env = jinja2.Environment(autoescape=True)
    for file in folder.glob("templates/**/*.html"):
        for call in env.parse(file.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("_", "plural"):
                yield from (
                    arg.value for arg in call.args if isinstance(arg, nodes.Const) and isinstance(arg.value, str)
                )


def of_code(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield from of_call(node.func.id, node)


def of_call(name: str, call: ast.Call) -> Iterator[str]:
    given = {keyword.arg or "": keyword.value for keyword in call.keywords}
    if name in ("_", "plural", "Words"):
        yield from texts(call.args)
    elif name == "Told":
        yield from texts(call.args[:1])
    elif name == "definition_pages":
        yield from texts([value for key, value in given.items() if key in SHOWN])
    elif name == "Page":
        yield from texts(
            [
                *call.args[:1],
                *call.args[2:3],
                *call.args[4:5],
                *(given[key] for key in ("things", "destination") if key in given),
            ]
        )


def texts(values: list[ast.expr]) -> Iterator[str]:
    for value in values:
        shown = value.values if isinstance(value, ast.Dict) else [value]
        for one in shown:
            of_lambda = one.body if isinstance(one, ast.Lambda) else one
            branches = [of_lambda.body, of_lambda.orelse] if isinstance(of_lambda, ast.IfExp) else [of_lambda]
            yield from (
                part.value for part in branches if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )


def of_forms() -> Iterator[str]:
    providers = (http.PROVIDER, smpp.PROVIDER, smtp.PROVIDER)
    fields = [*servers.FIELDS, *gateways.FIELDS, *(field for one in providers for field in one.fields)]
    for field in (*fields, *Declaration("thing", []).fields_of({}).values()):
        yield from (label(field), field.help, field.section)
    for preset in (*mail_presets.PRESETS.values(), *sms_presets.PRESETS.values()):
        yield from (preset.title, preset.notes)


def elsewhere() -> Iterator[str]:
    """Texts that are shown by a name."""
    yield from (*State, *ROLES, *BREAKERS, *TIMES.values(), *(words for _steps, words in SPANS.values()))
    yield from (
        *timeline.ENDS.values(),
        *timeline.OUTCOMES.values(),
        "Overview",
        "Messages",
        "Jobs",
        "Workers",
        "Schedule",
        "Audit",
        "Tokens",
    )
    yield from (
        "does not answer",
        "keeps data that can't be used",
        "is full",
        "can't be used",
        "belongs to another release",
    )
    yield people.KEPT
    yield from ("None of these", *NAMES.values())
    yield from ("mail to {who}", "SMS to {who}", "reply", "queue id", "server", "gateway", "answer")
    yield from ("command", "refused", "failed")
    yield from of_forms()


@pytest.fixture(scope="module")
def used() -> set[str]:
    found = {text for folder in PACKAGES for text in of_templates(folder)}
    code = [ROOT / "src/pijobs", *PACKAGES[1:]]
    found |= {text for folder in code for text in of_code(folder)}
    return {text for text in {*found, *elsewhere()} if re.search(r"\w", text)}


def german() -> dict[str, str]:
    known: dict[str, str] = {}
    for folder in PACKAGES:
        file = folder / "translations/de.json"
        known |= json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return known


def test_each_text_has_a_german_one_and_no_other_does(used: set[str]) -> None:
    known = german()
    assert sorted(used - known.keys()) == []
    assert sorted(known.keys() - used) == []


def test_german_has_its_own_signs_and_words_for_what_the_storage_has() -> None:
    app = flask.Flask("an_app")
    app.extensions[LANGUAGES] = Languages([folder / "translations" for folder in PACKAGES])
    with app.test_request_context(headers={"Accept-Language": "de"}):
        assert [duration(0.17), duration(2.34), count(1.05)] == ["0,17 s", "2,3 s", "1,05"]
        assert subject("mail to a***@example.com") == "Mail an a***@example.com"
        assert subject("SMS to +49***78") == "SMS an +49***78"


def test_what_checks_say_can_be_translated() -> None:
    """A literal or an f-string can't; nor can a Told whose template is no literal."""
    said: list[ast.expr] = []
    for file in (file for folder in (ROOT / "src/pijobs", *PACKAGES[1:]) for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("CheckResult", "warned", "_warning"):
                    said += [*node.args, *(one.value for one in node.keywords)]
                elif node.func.id == "Told":
                    said += [one for one in node.args[:1] if isinstance(one, ast.JoinedStr)]
    literals = [one for one in said if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    assert len(said) > 200
    assert [ast.unparse(one) for one in said if one in literals or isinstance(one, ast.JoinedStr)] == []


def test_a_german_text_has_the_same_values_as_the_english_one() -> None:
    def values(text: str) -> set[str]:
        return {name for _text, name, _format, _conversion in Formatter().parse(text) if name}

    assert {text for text, other in german().items() if "{" in other and values(other) != values(text)} == set()


def test_no_template_has_a_text_that_can_not_be_translated() -> None:
    shown = re.compile(r"{#.*?#}|{%.*?%}|{{.*?}}|<code>.*?</code>|<[^>]*>|&\w+;", re.DOTALL)
    attributes = re.compile(r"macro live.*?endmacro", re.DOTALL)
    told = re.compile(r'(?:aria-label|placeholder|title)="([^"{]+)"')
    for folder in PACKAGES:
        for file in folder.glob("templates/**/*.html"):
            if file.name == "api.html":  # its words are those of the code
                continue
            text = file.read_text()
            left = {*shown.sub(" ", attributes.sub("", text)).split(), *told.findall(text)}
            same_everywhere = {"UTC", "UTC:", "95", "%", "job."}
            assert {one for one in left - same_everywhere if re.search(r"[a-zA-Z]", one)} == set(), file.name


def test_a_file_with_a_mistake_takes_no_page_down(tmp_path: Path) -> None:
    wrong = {"{n} of it": "{n.x}", "{n} of all": "{n[0]}", "1,000.5": "x"}
    (tmp_path / "en.json").write_text(json.dumps(wrong))
    app = flask.Flask("an_app")
    app.extensions[LANGUAGES] = Languages([tmp_path])
    with app.test_request_context():
        assert [_(text, n=5) for text in wrong if "n" in text] == ["5 of it", "5 of all"]
        assert count(1234.5) == "1,234.5"
