"""Moving what a job prints from its pipe to its output file."""
