"""
Regenerate txworker/pb from proto/: `tox -e protos` (or any Python with grpcio-tools and mypy-protobuf).

Writes below the folder given as first argument, by default the project's own.
"""

import pathlib
import sys

import grpc_tools
import grpc_tools.protoc

PROTO = pathlib.Path(__file__).resolve().parent


def main(out: pathlib.Path) -> int:
    """Generate messages, stubs and their types below `out`; the exit code of protoc."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    return int(
        grpc_tools.protoc.main(
            [
                "protoc",
                f"-I{PROTO}",
                f"-I{include}",
                f"--python_out={out}",
                f"--grpc_python_out={out}",
                f"--mypy_out={out}",
                f"--mypy_grpc_out={out}",
                *files,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO.parent))
