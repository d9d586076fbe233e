"""The two processes that are measured in turn, each behind the same few calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

INSTALL = """\
llama.cpp is measured through the PyPI package llama-cpp-python, built for this machine:

    python -m venv llamacpp
    CMAKE_ARGS="-DGGML_NATIVE=ON" llamacpp/bin/pip install --no-cache-dir --no-binary llama-cpp-python \\
        llama-cpp-python

and named with --peer-python llamacpp/bin/python (see bench/README.md)."""


class Trouble(Exception):
    """Something that the user has to know and can do something about."""


class Lines:
    """A child process that answers lines with lines of JSON."""

    def __init__(self, command, env=None):
        self.command = command
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **(env or {})},
            )
        except OSError as error:
            raise Trouble(f"cannot start {command[0]}: {error.strerror}") from error

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Trouble(f"{' '.join(self.command)} ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Trouble(answer["error"])
        return answer

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Ours:
    """`tidemill bench --on-demand`."""

    def __init__(self, options, model):
        depths = ",".join(map(str, options.depths))
        command = [options.tidemill, "bench", "-m", model, "--on-demand", "-o", "jsonl"]
        command += ["-r", "1", "-t", str(options.threads), "-ub", str(options.ubatch)]
        command += ["-p", str(options.prompt), "-n", str(options.generate), "-d", depths]
        command += ["-npl", f"1,{options.sequences}", "-ctk", options.type_k, "-ctv", options.type_v]
        env = {"TIDEMILL_ISA": options.isa} if options.isa else {}
        self.lines = Lines(command, env)

    def run(self, case):
        """One repetition; answers the record."""
        return self.lines.ask(case.name)

    def bandwidth(self):
        """Bytes per second: the best of several passes."""
        return self.lines.ask("read bandwidth")["read_bandwidth"]

    def end(self):
        self.lines.end()


class Theirs:
    """llama.cpp, in the interpreter that has it."""

    def __init__(self, options):
        self.options = options
        self.lines = Lines([options.peer_python, str(HERE / "peer.py")])
        try:
            self.about = self.lines.read()
        except Trouble as error:
            raise Trouble(f"{error}\n\n{INSTALL}") from error
        self.shape = None

    def ask(self, what, **arguments):
        return self.lines.ask(json.dumps({"do": what, **arguments}))

    def load(self, model, repack):
        self.shape = None
        self.ask("load", path=model, repack=repack)

    def open(self, context, sequences, flash):
        """Makes a context, unless there is one of this shape."""
        options = self.options
        shape = (context, sequences, flash)
        if shape != self.shape:
            self.shape = None
            self.ask(
                "open",
                context=context,
                sequences=sequences,
                flash=flash,
                threads=options.threads,
                ubatch=options.ubatch,
                key=options.type_k,
                value=options.type_v,
            )
            self.shape = shape

    def run(self, case):
        """One repetition; answers its seconds."""
        answer = self.ask(
            "run",
            kind=case.kind,
            tokens=case.tokens,
            depth=case.depth,
            sequences=case.sequences,
        )
        return answer["ns"] / 1e9

    def end(self):
        self.lines.end()


def our_first_token(options, model):
    """Loads a warm file; answers the milliseconds to the first token."""
    command = [options.tidemill, "bench", "-m", model, "--load", "warm", "-o", "jsonl"]
    command += ["-r", "1", "-t", str(options.threads)]
    env = {"TIDEMILL_ISA": options.isa} if options.isa else {}
    lines = Lines(command, env)
    record = lines.read()
    lines.end()
    return record["first_token_ms"]


def their_first_token(options, model, repack):
    """The same in a fresh process of llama.cpp."""
    theirs = Theirs(options)
    answer = theirs.ask(
        "first_token", path=model, repack=repack, threads=options.threads, prompt=16
    )
    theirs.end()
    return answer["ns"] / 1e6


def python():
    """The interpreter that runs this."""
    return sys.executable
