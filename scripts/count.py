"""Counts, a line at a time, and says goodbye on stderr."""

import sys
import time

for number in range(1, 6):
    print("count", number, flush=True)
    time.sleep(0.3)
print("that is all", file=sys.stderr)
