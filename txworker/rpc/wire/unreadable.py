"""Says what is wrong with a request that protobuf cannot parse. Any thread."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from txworker.jobs.errors import InvalidRequest

_MAX_INSPECTED_BYTES = 4 * 1024
"""The wrong field of a longer request is not named: finding it makes a Python object for each value in the request."""

_SHOWN_BYTES = 40

_LENGTH_DELIMITED = 2  # the wire type of strings, bytes and messages


def unreadable(message: Descriptor, request: bytes) -> InvalidRequest:
    """An error that names the string that is not UTF-8, or shows the beginning of a request that is not a message."""
    if len(request) <= _MAX_INSPECTED_BYTES:
        found = _not_utf8(message, request, "")
        if found is not None:
            return found
    problem = f"is how {len(request)} bytes begin that cannot be read as a {message.full_name}"
    return InvalidRequest("request", request[:_SHOWN_BYTES], problem)


def _not_utf8(message: Descriptor, data: bytes, prefix: str) -> InvalidRequest | None:
    """The first string that is not UTF-8. Parses as Empty, which has no fields, so no string is decoded."""
    try:
        values: Any = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        return None
    for value in values:
        field = message.fields_by_number.get(value.field_number)
        if field is None or value.wire_type != _LENGTH_DELIMITED:
            continue
        name = f"{prefix}{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(value.data):
            return InvalidRequest(name, value.data, "is not UTF-8")
        if field.message_type is not None:
            found = _not_utf8(field.message_type, value.data, f"{name}.")
            if found is not None:
                return found
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
