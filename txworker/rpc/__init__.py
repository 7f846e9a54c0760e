"""The gRPC door, in threads."""
