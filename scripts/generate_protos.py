"""Generate the Python code of the protos for the server and for the client.

Run it with `make gen`. `--check` writes nothing and fails where the checked-in
code differs from what the protos say.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO_DIR = ROOT / "protos"
TARGETS = {
    "bursar.pb": ROOT / "server" / "bursar" / "pb",
    "bursar_client.pb": ROOT / "clients" / "python" / "src" / "bursar_client" / "pb",
}

PACKAGE_DOC = """\
\"\"\"Generated from protos/bursar/v1 by `make gen`; do not edit.

`NotImplementedError` in the servicers is grpcio-tools' own: it goes with UNIMPLEMENTED, the answer
to a method that a servicer leaves out, and is never raised by a stub.
\"\"\"
"""


def compile_protos(out_dir: Path) -> Path:
    """Run protoc into out_dir and return the folder of the generated modules."""
    protos = sorted(str(path.relative_to(PROTO_DIR)) for path in PROTO_DIR.rglob("*.proto"))
    # The stub plugin is found where this Python's scripts are.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    outputs = [f"--{kind}_out={out_dir}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO_DIR}", *outputs, *protos]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    return out_dir / "bursar" / "v1"


def place(generated: Path, package: str, destination: Path) -> None:
    """Copy the generated modules to destination as the Python package `package`."""
    destination.mkdir(parents=True, exist_ok=True)
    for old in destination.glob("*_pb2*.py*"):
        old.unlink()
    for source in sorted(generated.iterdir()):
        text = source.read_text(encoding="utf-8")
        if "_pb2_grpc" in source.name and "ServiceStub" not in text:
            continue  # A file of messages only has no stubs worth keeping.
        # Both packages hold a copy, so modules are imported from where they lie.
        text = text.replace("from bursar.v1 import", f"from {package} import")
        text = text.replace("bursar.v1.", f"{package}.") if source.suffix == ".pyi" else text
        text = text.replace("import bursar.v1", f"import {package}")
        (destination / source.name).write_text(text, encoding="utf-8")
    (destination / "__init__.py").write_text(PACKAGE_DOC, encoding="utf-8")


def differences(left: Path, right: Path) -> list[str]:
    """Return the names of generated files that differ between two folders."""
    names = {path.name for folder in (left, right) for path in folder.glob("*.py*")}
    _, differing, missing = filecmp.cmpfiles(left, right, sorted(names), shallow=False)
    return sorted(differing + missing)


def main() -> int:
    """Generate, or check that nothing would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file would change")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        generated = compile_protos(Path(temporary))
        stale: list[str] = []
        for package, destination in TARGETS.items():
            if not arguments.check:
                place(generated, package, destination)
                continue
            expected = Path(temporary) / package
            place(generated, package, expected)
            stale += [f"{package}: {name}" for name in differences(expected, destination)]
            shutil.rmtree(expected)
    for name in stale:
        sys.stderr.write(f"{name} is not what the protos say; run `make gen`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
