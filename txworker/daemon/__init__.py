"""What twistd runs: the service, how it is put together, and the order of starting and stopping."""
