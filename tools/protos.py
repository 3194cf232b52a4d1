"""Write the message classes of the .proto files anew: ``python tools/protos.py``, with grpcio-tools installed.

They are committed, so that nobody else needs the compiler; ``--check`` says whether they are what it makes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path("nacre/serve/grpc")
SOURCE = Path(__file__).parent.parent / "src"


def compiled(folder: Path) -> dict[str, str]:
    """The generated files by name."""
    protos = sorted(str(path.relative_to(SOURCE)) for path in (SOURCE / HOME).glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}", f"--python_out={folder}"]
    subprocess.run([*command, f"--pyi_out={folder}", *protos], check=True, cwd=SOURCE)
    return {path.name: path.read_text() for path in sorted((folder / HOME).iterdir())}


def main() -> None:
    """Write or compare; exit code 1 where they differ."""
    with tempfile.TemporaryDirectory() as name:
        made = compiled(Path(name))
    stale = [
        name for name, text in made.items() if not (path := SOURCE / HOME / name).exists() or path.read_text() != text
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"{HOME / name} is not what its .proto gives" for name in stale) or "up to date")
        raise SystemExit(1 if stale else 0)
    for name in stale:
        (SOURCE / HOME / name).write_text(made[name])
        print(f"wrote {HOME / name}")


if __name__ == "__main__":
    main()
