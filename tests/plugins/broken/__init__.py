"""Plugins with one fault each, and one without, named in ``PI_JOB_QUEUE_PLUGINS`` as dotted modules."""
