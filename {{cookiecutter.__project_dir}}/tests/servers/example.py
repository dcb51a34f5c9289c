"""An application for tests of how it is served: routes that wait, stream and echo."""

from __future__ import annotations

from pathlib import Path

from .processes import PROJECT

_SOURCE = """
import os, time
import flask
from {package}.app import create_app
from threadkit import background, deadline, remaining, runtime, sheddable, sleep

app = create_app()

# Never stands in line, so it can tell of the line.
app.view_functions["health.livez"] = lambda: flask.jsonify(
    status="alive", line=runtime.current().stats().get("line"), pid=os.getpid()
)

@app.get("/quick")
def quick():
    return {{"quick": True}}

@app.get("/sleep/<float:seconds>")
@deadline(None)
def wait(seconds):
    sleep(seconds)
    return {{"slept": seconds}}

@app.post("/echo")
def echo():
    return flask.Response(flask.request.get_data(), content_type="application/octet-stream")

@app.get("/bytes/<int:count>")
@deadline(None)
def large(count):
    return flask.Response(b"x" * count, content_type="application/octet-stream")

@app.get("/stream/<int:count>")
@deadline(None)
def stream(count):
    def chunks():
        for number in range(count):
            yield b"%d\\n" % number
    return flask.Response(chunks(), content_type="text/plain")

@app.get("/drip/<int:count>")
@deadline(None)
def drip(count):
    return flask.Response(drops(count), content_type="text/plain")

@app.get("/limited/<int:count>")
def limited(count):
    return flask.Response(drops(count), content_type="text/plain")

def drops(count):
    for _ in range(count):
        sleep(0.1)
        yield f"{{remaining()}}\\n".encode()

@app.get("/short")
def short():
    return flask.Response([b"abc"], headers={{"Content-Length": "5"}})

@app.get("/optional")
@sheddable
def optional():
    return {{"optional": True}}

@app.post("/later/<float:seconds>/<name>")
def later(seconds, name):
    background.submit(write_later, seconds, name)
    return {{"later": name}}

def write_later(seconds, name):
    time.sleep(seconds)
    open(os.path.join(os.environ["PYTHONPATH"], name), "w").close()

@app.get("/burn/<int:milliseconds>")
@deadline(None)
def burn(milliseconds):
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        sum(range(100))
    return {{"burnt": milliseconds}}
"""


def package() -> str:
    """The owner's package, which the tests cannot know by name."""
    return next(p.parent.name for p in (PROJECT / "src").glob("*/wsgi.py"))


def example(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which gunicorn serves it."""
    (folder / "example.py").write_text(_SOURCE.format(package=package()))
    return ["-c", "gunicorn.conf.py", "example:app"], {"PYTHONPATH": str(folder)}
