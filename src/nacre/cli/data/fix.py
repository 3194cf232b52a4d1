"""`nacre data check --fix`: mend a file."""

from pathlib import Path

from nacre.base.errors import InputError
from nacre.cli.common import console, print_json


def fix_file(path: Path | None, dataset: str | None, dataset_dir: Path, out: Path | None, *, as_json: bool) -> int:
    """Mend one file and say what was changed. The exit code: 0 where every row can be used now, 1 where some cannot."""
    from nacre.data.check import at
    from nacre.data.dataset import resolve
    from nacre.data.repair import fix

    found = at(str(path)) if path is not None else resolve(str(dataset), dataset_dir)
    files = (*found.train, *found.dev)
    if len(files) != 1:
        names = ", ".join(map(str, files))
        raise InputError(f"--fix mends one file, and these are {len(files)}: {names}", fix="give the PATH of one")
    report = fix(files[0], out, entry=found.entry)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        for line in report.lines():
            console.print(line, markup=False)
    return 0 if report.dropped == 0 else 1
