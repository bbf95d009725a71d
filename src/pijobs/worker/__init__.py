"""The worker: huey's consumer on a pijobs storage.

:mod:`~pijobs.worker.engine` is the :class:`huey.Huey` subclass (what to run), :mod:`~pijobs.worker.consumer` the
:class:`huey.consumer.Consumer` subclass (processes, threads, signals), :mod:`~pijobs.worker.periodic` the due times of
periodic jobs.
"""
