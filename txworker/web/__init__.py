"""The HTTP door: metrics for Prometheus, and pages that tell whether the worker lives and takes jobs."""
