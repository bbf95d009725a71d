"""The state of the queue, for commands, pages, readiness and metrics; and the actions of people."""
