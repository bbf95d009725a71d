"""The worker: huey's consumer on a pijobs storage.

* :mod:`~pijobs.worker.consumer` is the :class:`huey.consumer.Consumer` subclass: processes, threads, signals.
* :mod:`~pijobs.worker.engine` is the :class:`huey.Huey` subclass: one turn of a thread. It builds on
  :mod:`~pijobs.worker.leasing` (instances become tasks) and :mod:`~pijobs.worker.huey_hooks`.
* :mod:`~pijobs.worker.session` gives the signs of life, which renew the :mod:`~pijobs.worker.held_leases`.
* :mod:`~pijobs.worker.attempts` and :mod:`~pijobs.worker.ends` decide what follows from an attempt.
* :mod:`~pijobs.worker.periodic` enqueues the due times of periodic jobs.
"""
