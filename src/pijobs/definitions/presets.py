"""What is known of destinations that many use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Fields of a definition to start from.

    :ivar title: for people.
    :ivar values: by name of the field. Words in capitals are for the admin to replace.
    :ivar notes: what else to do or to know.
    """

    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
