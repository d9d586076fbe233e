"""A running `tidemill serve` with the tiny model, for the clients beside this file."""

import contextlib
import re
import subprocess
import sys

KEY = "a key"
GREETING = "Hello! How can I help you?"
WORDS = "button duck east red bear cat"
SCHEMA = {
    "type": "object",
    "properties": {
        "thing": {"type": "string"},
        "color": {"type": "string", "enum": ["red", "green", "blue", "yellow", "white"]},
    },
    "required": ["thing"],
}
ABOUT = "Get the price of a thing."
TOOL = {"type": "function", "function": {"name": "price_of", "description": ABOUT, "parameters": SCHEMA}}
QUESTION = [{"role": "user", "content": "What is the price of a cup?"}]
CALM = {"chat_template_kwargs": {"enable_thinking": False}}


def user(text):
    return [{"role": "user", "content": text}]


@contextlib.contextmanager
def serving(program, *options):
    """Runs the program on a port that the system chooses; gives its address, and stops it at the end."""
    server = subprocess.Popen(
        [program, "serve", "--port", "0", "--api-key", KEY, *options], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in server.stderr:
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                break
        else:
            sys.exit("the server did not start")
        yield found.group(1)
    finally:
        server.terminate()
        server.wait(timeout=60)
    assert server.returncode == 0, server.returncode


def run(program, checks, *options):
    """Runs checks one after the other against one server."""
    with serving(program, *options) as base:
        for check in checks:
            check(base)
            print("ok", check.__name__, flush=True)
