"""The state of the queue, for commands, pages, readiness and metrics; and the actions of people.

* :mod:`~pijobs.observe.status` answers how the queue stands; :mod:`~pijobs.observe.facts` has its rows,
  :mod:`~pijobs.observe.sentences` its words.
* :mod:`~pijobs.observe.lists` and :mod:`~pijobs.observe.instances` show instances, :mod:`~pijobs.observe.life` tells
  what happened to one.
* :mod:`~pijobs.observe.checks` is the table of all checks; :mod:`~pijobs.observe.readiness` runs them.
"""
