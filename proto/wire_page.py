"""
Writes docs/wire.md, the reference of the wire, from the comments in proto/: `tox -e protos`.

Writes to the file given as first argument, by default to the project's own.
"""

from __future__ import annotations

import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

import grpc_tools
import grpc_tools.protoc
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

PROTO = pathlib.Path(__file__).resolve().parent
PAGE = PROTO.parent / "docs" / "wire.md"

INTRODUCTION = """\
# The wire

`tox -e protos` generates this page from the comments in `proto/`, and a test fails when it is not fresh.
"""

_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6  # field numbers in FileDescriptorProto, of which source locations are paths
_FIELDS = _VALUES = _METHODS = 2

Path = Sequence[int]


class File:
    """One .proto file and the comments in it."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}
        self._opening = next((one for one in file.source_code_info.location if list(one.path) == [12]), None)

    def lines(self) -> Iterator[str]:
        """Its chapter of the page."""
        yield f"## {self._file.name.rpartition('/')[2]}"
        yield ""
        if self._opening is not None:
            paragraphs = [*self._opening.leading_detached_comments, self._opening.leading_comments]
            yield from _prose("\n\n".join(paragraphs))
        for number, service in enumerate(self._file.service):
            yield from self._service(service, (_SERVICES, number))
        for number, message in enumerate(self._file.message_type):
            yield from self._message(message, (_MESSAGES, number))
        for number, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, (_ENUMS, number))

    def _service(self, service: ServiceDescriptorProto, path: Path) -> Iterator[str]:
        name = ".".join(filter(None, (self._file.package, service.name)))
        yield from self._heading(f"Service `{name}`", path)
        yield from ("| method | request | answer | |", "| --- | --- | --- | --- |")
        for number, method in enumerate(service.method):
            asked = ("stream of " if method.client_streaming else "") + _code(method.input_type)
            answered = ("stream of " if method.server_streaming else "") + _code(method.output_type)
            yield f"| `{method.name}` | {asked} | {answered} | {self._cell((*path, _METHODS, number))} |"
        yield ""

    def _message(self, message: DescriptorProto, path: Path) -> Iterator[str]:
        yield from self._heading(f"`{message.name}`", path)
        if not message.field:
            yield from ("It has no fields.", "")
            return
        yield from ("| number | field | type | |", "| --- | --- | --- | --- |")
        for number, field in enumerate(message.field):
            comment = self._cell((*path, _FIELDS, number))
            yield f"| {field.number} | `{field.name}` | {_type(field, message)} | {comment} |"
        yield ""

    def _enum(self, enum: EnumDescriptorProto, path: Path) -> Iterator[str]:
        yield from self._heading(f"`{enum.name}`", path)
        yield from ("| number | value | |", "| --- | --- | --- |")
        for number, value in enumerate(enum.value):
            yield f"| {value.number} | `{value.name}` | {self._cell((*path, _VALUES, number))} |"
        yield ""

    def _heading(self, title: str, path: Path) -> Iterator[str]:
        yield from (f"### {title}", "")
        yield from _prose(self._comments.get(tuple(path), ""))

    def _cell(self, path: Path) -> str:
        return " ".join(self._comments.get(tuple(path), "").split()).replace("|", "\\|")


def _prose(comment: str) -> Iterator[str]:
    """Its paragraphs, with a sentence to a line."""
    for paragraph in filter(None, (" ".join(one.split()) for one in comment.split("\n\n"))):
        yield from (*re.split(r"(?<=\.) (?=[A-Z])", paragraph), "")


def _code(full_name: str) -> str:
    return f"`{full_name.rpartition('.')[2]}`"


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entries = {one.name: one for one in message.nested_type if one.options.map_entry}
    name = field.type_name.rpartition(".")[2]
    if name in entries:
        key, value = entries[name].field
        return f"map from {_type(key, message)} to {_type(value, message)}"
    plain = f"`{name}`" if name else f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    return f"list of {plain}" if field.label == FieldDescriptorProto.LABEL_REPEATED else plain


def files() -> list[FileDescriptorProto]:
    """What protoc makes of proto/, with comments."""
    names = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory, "set")
        options = [f"-I{PROTO}", f"-I{include}", "--include_source_info", f"--descriptor_set_out={out}"]
        if status := grpc_tools.protoc.main(["protoc", *options, *names]):
            raise SystemExit(status)
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def page() -> str:
    """The whole page."""
    order = {"worker.proto": 0, "worker_bare.proto": 1, "control.proto": 2}
    chapters = sorted(files(), key=lambda file: order.get(file.name.rpartition("/")[2], len(order)))
    lines = [line for file in chapters for line in File(file).lines()]
    return INTRODUCTION + "\n" + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
