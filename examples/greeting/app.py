"""A Flask application that greets by the queue. It reads the same pi.cfg as the worker, and so has the same keys."""

from pathlib import Path

from flask import Flask

from pijobs.flask import JobQueue

app = Flask(__name__)
app.config.from_pyfile(Path("pi.cfg").absolute())
jobs = JobQueue(app)


@app.post("/greet/<name>")
def greet(name: str) -> str:
    handle = jobs.enqueue("greeting.write", kwargs={"name": name}, expires=60)
    return f"{handle.id} is {handle.state}\n"
