"""
Serializes StreamJobRes without protobuf, so that a block of output is copied once instead of three times.

tests/rpc/wire/test_blocks.py parses the result with protobuf.
"""

from __future__ import annotations

_OUTPUT, _DATA = b"\x0a", b"\x52"  # tags of fields 1 and 10, length-delimited
_OFFSET = b"\x58"  # tag of field 11, a varint


def text_message(text: str, offset: int) -> bytes:
    """StreamJobRes(output=text, offset=offset), serialized."""
    return _message(_OUTPUT, text.encode(), offset)


def raw_message(data: bytes, offset: int) -> bytes:
    """StreamJobRes(data=data, offset=offset), serialized."""
    return _message(_DATA, data, offset)


def _message(tag: bytes, payload: bytes, offset: int) -> bytes:
    return b"".join((_OFFSET, _varint(offset), tag, _varint(len(payload)), payload))


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
