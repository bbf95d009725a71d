"""The whole system in one thread, under virtual time, from one seed. See *Explanation, simulation* in the docs.

A history is made of servers, workers, an admin and faults. All of it is the real code (queue, spool, sessions, engine,
storages); only the clock, the threads and the way to the storage are stand-ins. What happened is entered in books, and
judged at each step and at the end.
"""
