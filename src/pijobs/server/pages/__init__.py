"""The pages: the state of the queue, for people.

Plugins use :class:`PageBlueprint`, :mod:`.plots`, :func:`requires`, :func:`definition_pages`, :func:`say`,
:class:`Problem`, the templates ``pijobs/page.html`` and ``pijobs/parts.html``, and the filters of
:mod:`.formatting`, which have the prefix ``pijobs_`` in templates.
"""

from pijobs.server.pages.definitions import definition_pages
from pijobs.server.pages.site import PageBlueprint, add_pages
from pijobs.server.pages.web_session import Problem, Visitor, requires, say

__all__ = ["PageBlueprint", "Problem", "Visitor", "add_pages", "definition_pages", "requires", "say"]
