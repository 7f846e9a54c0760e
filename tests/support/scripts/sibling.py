"""
Makes children of its own parent (CLONE_PARENT, clone(2)). The first argument is their argv[0].

The second is their number; with "chain" each makes the next, 400 times a second, and exits. Each appends its pid to the
file that the third names. With a fourth argument this process stays.
"""

import ctypes
import os
import struct
import sys
import time

libc = ctypes.CDLL(None)
libc.syscall.restype = ctypes.c_long


def sibling() -> int:
    arguments = struct.pack("11Q", 0x8000, *[0] * 10)  # the exit signal is the caller's
    pid: int = libc.syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(len(arguments)))  # clone3
    return pid


name, count, place, *stay = sys.argv[1:]


def tell() -> None:
    with open(place, "a") as file:
        file.write(f"{os.getpid()}\n")


if count == "chain":
    for _ in range(60 * 400):  # an end, should nothing end it
        if sibling():
            os._exit(0)
        tell()
        time.sleep(1 / 400)
    sys.exit()
for number in range(int(count)):
    if sibling() == 0:
        tell()
        os.setsid() if number % 2 else None
        os.execve("/bin/sleep", [name, "300"], dict(os.environ) if number % 3 else {})
if stay:
    os.execv("/bin/sleep", ["sleep", "300"])
