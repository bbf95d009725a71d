"""The pages: what the queue does, for people.

What plugins use of them: :class:`PageBlueprint`, :mod:`.plots`, :func:`requires`, :func:`definition_pages`,
:func:`say`, :class:`Problem`, the templates ``pijobs/page.html`` and ``pijobs/parts.html``, and
the filters of :mod:`.formatting`, which templates call ``pijobs_…``.
"""

from pijobs.server.pages.definitions import definition_pages
from pijobs.server.pages.site import PageBlueprint, add_pages
from pijobs.server.pages.web_session import Problem, Visitor, requires, say

__all__ = ["PageBlueprint", "Problem", "Visitor", "add_pages", "definition_pages", "requires", "say"]
