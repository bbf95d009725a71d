"""The arguments of the scripts."""

from __future__ import annotations

from pijobs.storage.values import End, NewInstance

Argument = str | bytes | int


def optional(value: str | int | None) -> str | int:
    """None as the scripts write it."""
    return "" if value is None else value


def of_instance(new: NewInstance) -> tuple[Argument, ...]:
    return (
        new.id,
        new.name,
        new.envelope,
        new.body,
        new.group,
        new.priority,
        new.created,
        optional(new.deadline),
        optional(new.due),
        optional(new.key),
        optional(new.subject),
        optional(new.limit),
        optional(new.keep),
        new.label or "",
        optional(new.person),
    )


def of_end(end: End) -> tuple[Argument, ...]:
    return (
        end.id,
        end.token,
        end.state.value,
        1 if end.counted else 0,
        optional(end.due),
        end.reason or "",
        end.error or "",
        end.entry or "",
        end.envelope or b"",
        end.body or b"",
    )
