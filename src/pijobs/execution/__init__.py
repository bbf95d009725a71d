"""One attempt of a job and its outcome; used by requests that run a job themselves, and by the worker."""
