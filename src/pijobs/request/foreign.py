"""A foreign queue class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pijobs.jobs import State
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.calls import JobCall, checked
from pijobs.request.queue import Handle, Queue
from pijobs.settings import Settings


class ForeignQueue(Queue):
    """A foreign class behind the interface of :class:`Queue`. It gets the jobs and the calls, but no options."""

    foreign = True

    def __init__(self, settings: Settings, registry: Registry, plugins: Plugins, *, foreign: Any) -> None:
        super().__init__(settings, registry, plugins)
        self._foreign = foreign
        for name, job in registry.items():
            foreign.register_job(name, job.function)

    def enqueue(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle:
        given = [option for option, value in options.items() if value is not None]
        if given:
            raise ValueError(f"the queue class {self.settings.queue_class} takes no options, found {', '.join(given)}")
        checked(self.registry, name, args, kwargs)
        answer = self._foreign.enqueue(name, tuple(args), dict(kwargs or {}))
        return Handle(str(getattr(answer, "id", "")), State.QUEUED, via="foreign")

    def enqueue_many(self, calls: Iterable[JobCall], *, connection: Any = None) -> list[Handle]:
        if connection is not None:
            raise ValueError(f"the queue class {self.settings.queue_class} takes no options, found connection")
        names = ("delay", "eta", "expires", "priority", "key")
        return [self.enqueue(one.name, one.args, one.kwargs, **{name: getattr(one, name) for name in names})
                for one in calls]  # fmt: skip
