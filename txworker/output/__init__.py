"""The output files of jobs: one side records, and threads that serve viewers read."""
