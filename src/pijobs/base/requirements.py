"""Compares what is installed with what pijobs requires. Uses the standard library only, because it must work when
nothing else does: an upgrade of privacyIDEA installs the versions that privacyIDEA pins, and pip only warns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")


def unmet(*distributions: str) -> list[str]:
    """One sentence for each requirement of these distributions that is not met, with the command that repairs it.

    :param distributions: names; those that are not installed are skipped.
    """
    return sorted({sentence for name in distributions for sentence in _unmet(name)})


def _unmet(distribution: str) -> Iterator[str]:
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for text in required:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None or match[3]:  # extras, and what is for other machines
            continue
        name, wanted = match[1], match[2].strip()
        advice = f"pip install '{name}{wanted}'"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield f"{name} is not installed, {distribution} needs {wanted or 'it'}: {advice}"
            continue
        if not _fits(found, wanted):
            yield f"{name} {found} is installed, {distribution} needs {wanted}: {advice}"


def _fits(version: str, wanted: str) -> bool:
    return all(_clause(_release(version), *clause) for clause in _CLAUSE.findall(wanted))


def _clause(found: tuple[int, ...], sign: str, text: str, wildcard: str) -> bool:
    wanted = _release(text)
    if wildcard or sign == "~=":
        prefix = wanted if wildcard else wanted[:-1]
        same = _padded(found, len(prefix))[: len(prefix)] == prefix
        return same != (sign == "!=") if wildcard else same and _compared(found, wanted) >= 0
    # The comparisons that match: "=" for equal, "<" and ">" for less and more.
    fitting = {"==": "=", "!=": "<>", "<=": "<=", ">=": ">=", "<": "<", ">": ">"}[sign]
    return "=><"[_compared(found, wanted)] in fitting


def _compared(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    length = max(len(left), len(right))
    one, other = _padded(left, length), _padded(right, length)
    return (one > other) - (one < other)


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version; suffixes of pre-releases and builds are ignored."""
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, match[1].split("."))) if match else ()
