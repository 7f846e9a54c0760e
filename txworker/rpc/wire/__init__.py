"""Converts between the worker's values and protobuf messages, and from errors to gRPC statuses. Any thread."""
