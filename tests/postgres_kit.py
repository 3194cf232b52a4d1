"""A PostgreSQL server of the test run's own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL server on a local socket; yields the URL of its first database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else shutil.which("initdb")
    if not initdb:
        pytest.skip("no PostgreSQL server is installed here")
    bins = Path(initdb).resolve().parent
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    home = Path(tempfile.mkdtemp(prefix="nacre-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        shutil.chown(home, owner)
        options = {"check": True, "user": owner, "cwd": "/", "stdout": subprocess.DEVNULL}
        initialise = [bins / "initdb", "-D", home / "data", "-U", "nacre", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(initialise, **options)
        flags = f"-k {home} -c listen_addresses='' -c fsync=off"
        started = [bins / "pg_ctl", "-D", home / "data", "-l", home / "log", "-w", "-o", flags, "start"]
        subprocess.run(started, **options)
        try:
            yield f"postgresql+psycopg://nacre@/postgres?host={home}"
        finally:
            subprocess.run([bins / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop"], **options)
    finally:
        shutil.rmtree(home)
