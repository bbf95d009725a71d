"""A Flask application that greets by the queue. It reads the same pi.cfg as the worker, and so has the same keys."""

from pathlib import Path

from flask import Flask
from pijobs_greeting import greet

from pijobs.flask import JobQueue

app = Flask(__name__)
app.config.from_pyfile(Path("pi.cfg").absolute())
JobQueue(app)


@app.post("/greet/<name>")
def greet_by_the_queue(name: str) -> str:
    handle = greet.options(expires=60).enqueue(name)
    return f"{handle.id} is {handle.state}\n"
