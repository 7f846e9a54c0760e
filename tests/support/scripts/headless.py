"""Its first thread ends, another goes on: a zombie by the looks of it."""

import ctypes
import sys
import threading
import time

threading.Thread(target=time.sleep, args=(300,)).start()
with open(f"{sys.argv[1]}/ready", "a") as file:
    file.write("\n")
ctypes.CDLL(None).pthread_exit(None)
