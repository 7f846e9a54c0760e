"""Forks a successor 400 times a second, each in a session of its own; the predecessor exits. For a minute at most."""

import os
import sys
import time

with open(f"{sys.argv[1]}/ready", "a") as file:
    file.write("\n")
due = time.monotonic()
for _ in range(60 * 400):
    if os.fork():
        os._exit(0)
    os.setsid()
    with open(f"{sys.argv[1]}/chain", "a") as file:
        file.write(".")
    due = max(due + 1 / 400, time.monotonic())
    time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
