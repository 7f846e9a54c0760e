"""The door of monitoring systems: metrics, and whether the worker lives and takes jobs, over HTTP; spans of traces."""
