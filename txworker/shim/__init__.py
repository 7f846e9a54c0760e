"""
The shim: a small program between the worker and its jobs, which owns the jobs' processes and outlives the worker.

It imports the standard library and txworker.linux only. The worker imports `messages` of it, and `feeding` for where
there is no shim.
"""
