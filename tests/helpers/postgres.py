"""A private PostgreSQL in a folder of its own, where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PLACES = ("/usr/lib/postgresql/*/bin/pg_ctl", "/usr/local/bin/pg_ctl", "/opt/homebrew/bin/pg_ctl")


def binaries() -> Path | None:
    """The folder of pg_ctl and initdb; None where PostgreSQL cannot be run."""
    found = [path for place in _PLACES for path in sorted(Path("/").glob(place[1:]))]
    return found[-1].parent if found and _user() is not None else None


def _user() -> str | None:
    """Who runs it: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name if shutil.which("runuser") else None
    except KeyError:
        return None


class Postgres:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = folder
        self.url = f"postgresql://tuner@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        place = binaries()
        assert place is not None
        as_user = ["runuser", "-u", str(_user()), "--"] if os.geteuid() == 0 else []
        # Into a file: the server inherits it, and a pipe would not be closed before the server ends.
        with (self._folder / "log").open("a") as log:
            command = [*as_user, str(place / program), "-D", str(self._folder / "data"), *arguments]
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/", timeout=60)

    def processes(self) -> list[int]:
        """Ids of the server's processes."""
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        found = [first]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == first:
                    found.append(int(stat.parent.name))
        return found

    def control(self, what: str) -> None:
        """start, stop or restart; waits until it is done."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-w", "-m", "fast", *(["-o", options] if what != "stop" else []), what)


@contextmanager
def private_postgres() -> Iterator[Postgres]:
    # Not under pytest's folders, which other users cannot enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="vcfbert-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, str(_user()))
        server = Postgres(folder)
        server.run("initdb", "-U", "tuner", "-A", "trust", "--no-sync")
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
