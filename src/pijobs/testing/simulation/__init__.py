"""The whole system in one thread, under virtual time, from one seed. See *Explanation, simulation* in the docs.

A history has servers, workers, an admin and faults. They run the real code (queue, spool, sessions, engine, storages)
with simulated clocks, threads and connections. Books record all events; judges check them at each step and at the end.
"""
