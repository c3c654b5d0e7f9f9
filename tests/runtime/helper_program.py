#!/usr/bin/python3 -IS
"""A helper program for tests: `helper_program.py [--ready-fd N] KIND DIRECTORY`. It leaves a file for each beginning."""

from __future__ import annotations

import os
import signal
import sys

_, *words = sys.argv
ready = -1
if words[0] == "--ready-fd":
    ready, words = int(words[1]), words[2:]
kind, directory = words


def serve() -> None:
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def leave(name: str) -> None:
    with open(f"{directory}/{name}", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


leave(f"began-{os.getpid()}")
if kind == "fails":
    sys.exit("worker: no such thing\n")
if kind == "hangs":
    serve()
if kind == "chatty":
    try:
        while True:
            os.write(2, b"x" * 4096)
    except OSError as error:
        leave(f"error-{error.errno}")
if kind == "forks" and os.fork() == 0:
    leave("worker.pid.new")
    os.rename(f"{directory}/worker.pid.new", f"{directory}/worker.pid")
    serve()
if kind == "forks":
    while not os.path.exists(f"{directory}/worker.pid"):  # nobody tells
        pass
    os._exit(0)
if ready >= 0:
    os.write(ready, b"1")
serve()
