"""
The shim: a small program between the worker and its jobs, which owns the jobs' processes and outlives the worker.

Standard library and txworker.linux only. `messages` is all that the worker imports of it.
"""
