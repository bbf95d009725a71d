"""One attempt of a job and what its end means; used by a request that runs the job itself, and by the worker."""
