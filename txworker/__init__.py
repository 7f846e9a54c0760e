"""A job worker: runs, watches and ends processes for a remote scheduler, over gRPC."""
