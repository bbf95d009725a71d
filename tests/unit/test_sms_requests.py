"""The request to an HTTP gateway: templates that are filled, logins, signatures, and what can't be."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pijobs_sms import http
from pijobs_sms.errors import GatewayRefused
from pijobs_sms.requests import body_fault, build, headers_fault, url_fault
from pijobs_sms.sigv4 import region_of, sign

PHONE, TEXT = "+491701234567", 'Ihr "Code" <739105> & mehr\n\\ €'
JSON = '{"messages": [{"to": ["{phone}"], "text": "{otp}", "flash": false, "parts": 2}], "ref": "{id}"}'
XML = '<sms to="{phone}"><text>{otp}</text></sms>'


def request(text: str = TEXT, phone: str = PHONE, **fields: Any) -> httpx.Request:
    defaults = {field.name: field.default for field in http.FIELDS}
    return build({**defaults, "url": "http://localhost/", "method": "POST", **fields}, phone, text, "id-1")


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_json_body_has_nesting_arrays_and_numbers() -> None:
    sent = request(body=JSON)
    assert sent.headers["Content-Type"] == "application/json"
    message = {"to": [PHONE], "text": TEXT, "flash": False, "parts": 2}
    assert json.loads(sent.content) == {"messages": [message], "ref": "id-1"}


def test_a_phone_number_may_be_a_number_in_json() -> None:
    sent = request(phone="491701234567", body='{"to": [{phone}], "text": "{otp}"}')
    assert json.loads(sent.content)["to"] == [491701234567]
    with pytest.raises(GatewayRefused, match="no JSON once it is filled"):
        request(phone="+491701234567", body='{"to": [{phone}], "text": "{otp}"}')


def test_an_xml_body() -> None:
    sent = request(body=XML, content_type="text/xml; charset=iso-8859-1")
    assert sent.headers["Content-Type"] == "text/xml; charset=iso-8859-1"
    tree = ElementTree.fromstring(sent.content.decode("iso-8859-1"))
    assert (tree.get("to"), tree.findtext("text")) == (PHONE, TEXT)


def test_an_attribute_keeps_its_line_breaks_and_a_cdata_section_its_signs() -> None:
    body = '<sms text="{otp}"><a><![CDATA[{otp}]]></a><b>{otp}</b></sms>'
    text = f"{TEXT} ]]> &amp;\t"
    tree = ElementTree.fromstring(request(text, body=body, content_type="text/xml; charset=utf-8").content)
    assert (tree.get("text"), tree.findtext("a"), tree.findtext("b")) == (text, text, text)
    with pytest.raises(GatewayRefused, match="iso-8859-1 lacks a letter"):
        request("€", body=body, content_type="text/xml; charset=iso-8859-1")


def test_a_form_body_and_a_raw_one() -> None:
    form = request(body="to={phone}&text={otp}&to={phone}", content_type="application/x-www-form-urlencoded")
    assert parse_qsl(form.content.decode()) == [("to", PHONE), ("text", TEXT), ("to", PHONE)]
    raw = request(body="{phone}\n{otp}", content_type="text/plain; charset=utf-8")
    assert raw.content.decode() == f"{PHONE}\n{TEXT}"


def test_parameters_stand_in_the_address_beside_a_body() -> None:
    sent = request(body=JSON, parameters={"key": "{password}"}, password="hunter2")
    assert sent.url.params["key"] == "hunter2"


@given(st.text())
def test_no_text_breaks_out_of_its_place(text: str) -> None:
    assert json.loads(request(text, body=JSON).content)["messages"][0]["text"] == text
    tree = ElementTree.fromstring(request(text, body=XML, content_type="application/xml").content)
    assert [child.tag for child in tree] == ["text"] and tree.keys() == ["to"]


@pytest.mark.parametrize(
    "body",
    [
        '{"to": "{phone}"', '{"text": {otp}}', '{"{otp}": {id}}', "[{sender}]", '{"to": "{phone}",}',
        "<sms><to>{phone}</sms>", "<sms {otp}></sms>", "<{otp}/>", "<sms to={phone}/>",
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused_when_it_is_saved(body: str) -> None:
    assert "expected " in (body_fault(body) or "")


@pytest.mark.parametrize(
    "body", [JSON, XML, '[{"to": {phone}}]', '{"{phone}": "{otp} {unknown}"}', "{otp", "to={phone}"]
)
def test_a_body(body: str) -> None:
    assert (body_fault(body) is None) is (body != "{otp")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"body": "{otp}", "content_type": "text/plain; charset=ascii"}, "ascii lacks a letter"),
        ({"body": "{otp}", "content_type": "text/plain; charset=klingon"}, "klingon lacks a letter of it, or is no"),
        ({"body": "{otp}", "method": "GET"}, "a body goes with POST, PUT or PATCH"),
        ({"body": "{otp}"}, "no JSON once it is filled"),
        ({"url": "http://{phone}.example.com/"}, "a placeholder in it"),
    ],
)
def test_a_request_that_can_not_be(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(GatewayRefused, match=why):
        request(**fields)


# -- address and headers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://sms.example.com", "HTTPS://sms.example.com:8443/{username}/send?to={phone}#x", "http://[::1]:1/",
        "http://bücher.example/", "http://sms.example.com/{otp}", "http://10.0.0.1:65535/",
    ],
)  # fmt: skip
def test_an_address(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://{phone}/", "a placeholder"), ("http://sms.{otp}.example.com/", "a placeholder"),
        ("https://sms.example.com:{id}/", "a placeholder"), ("https://{username}@sms.example.com/", "a placeholder"),
        ("HTTP://{phone}?x", "a placeholder"), ("http://sms.example.com:0/", "a port"),
        ("http://sms.example.com:65536/", "a port"), ("http://sms.example.com:x/", "expected a URL"),
        ("http:///send", "expected a URL"), ("ftp://sms.example.com/", "expected a URL"),
        ("http://u:p@sms.example.com/", "a URL without a login"), ("sms.example.com", "expected a URL"),
        ("http://sms.example.com/a b", "expected a URL"),
    ],
)  # fmt: skip
def test_what_is_no_address(url: str, why: str) -> None:
    assert why in (url_fault(url) or "")


def test_the_user_agent_is_ours_or_the_admins() -> None:
    assert request().headers["User-Agent"] == "pijobs-sms"
    sent = request(headers={"user-agent": "ACME/1", "authorization": "App {password}"}, username="u", password="k")
    assert (sent.headers["User-Agent"], sent.headers.get_list("Authorization")) == ("ACME/1", ["App k"])


def test_names_of_headers() -> None:
    assert headers_fault({"X-Api-Key": "", "a_b.c": ""}) is None
    assert "expected names of headers, found 'a b'" in (headers_fault({"a b": ""}) or "")


# -- the signature of Amazon, by its public test suite -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body", "signature"),
    [
        ("GET", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET", "?Param2=value2&Param1=value1", "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("POST", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "?Param1=value1", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        ("POST", "", "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
)  # fmt: skip
def test_a_signature(method: str, target: str, body: str, signature: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    request = httpx.Request(method, f"https://example.amazonaws.com/{target}", headers=headers, content=body or None)
    at = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc)
    sign(request, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", service="service", at=at)
    assert request.headers["X-Amz-Date"] == "20150830T123600Z"
    assert request.headers["Authorization"].endswith(f"Signature={signature}")


def test_the_region_stands_in_the_host() -> None:
    assert region_of("sns.eu-central-1.amazonaws.com") == "eu-central-1"
    assert region_of("sns-fips.us-gov-west-1.amazonaws.com") == "us-gov-west-1"
    assert region_of("sns.cn-north-1.amazonaws.com.cn") == "cn-north-1"
    assert region_of("127.0.0.1") == ""
