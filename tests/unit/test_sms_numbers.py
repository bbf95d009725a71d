"""Which phone numbers are sent to. The texts stand in tests/corpus/numbers.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pijobs_sms.errors import PhoneError
from pijobs_sms.numbers import normalize

CORPUS = yaml.safe_load((Path(__file__).parents[1] / "corpus/numbers.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: f"{row['text']!r} {row.get('countries', '')}")
def test_a_number_of_the_corpus(row: dict[str, Any]) -> None:
    text, fields = row["text"], (row.get("region", ""), row.get("countries", ""))
    if "fault" not in row:
        assert normalize(text, *fields) == row["e164"]
        return
    with pytest.raises(PhoneError, match=r"^phone: expected") as error:
        normalize(text, *fields)
    assert row["fault"] in str(error.value)
    assert not text.strip() or text.strip() not in str(error.value), "a refusal does not quote the number"
