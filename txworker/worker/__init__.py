"""The worker decides: which requests are taken, what becomes of a job, and when waiting callers are told."""
