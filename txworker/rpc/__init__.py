"""The gRPC door, in threads. wire/ has what goes through it, scheduler/ the worker's own calls to its scheduler."""
