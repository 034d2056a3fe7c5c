"""The three doors are shut to tests, whichever way they are tried."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.conftest import Doors


def connect(address: tuple[str, int] | str, *kind: int) -> None:
    with socket.socket(*kind) as asked:
        asked.connect(address)


TRIED: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run(["true"], check=True),
    "os.system": lambda: os.system("true"),
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": os.fork,
    "connect": lambda: connect(("127.0.0.1", 9)),
    "create_connection": lambda: socket.create_connection(("127.0.0.1", 9)),
    "datagram": lambda: connect(("192.0.2.1", 9), socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda: connect("/run/none", socket.AF_UNIX),
    "resolve": lambda: socket.getaddrinfo("localhost", 80),
    "open": lambda: Path("/var/tmp/door").write_text(""),
    "os.open": lambda: os.open("/var/tmp/door", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda: os.mkdir("/var/tmp/door"),
    "rename": lambda: os.rename("/var/tmp/door", "/var/tmp/other"),
    "unlink": lambda: os.unlink("/var/tmp/door"),
    "symlink": lambda: os.symlink("/x", "/var/tmp/door"),
    "chmod": lambda: os.chmod("/var/tmp/door", 0o600),
    "relative": lambda: Path("door").write_text(""),
    "above": lambda: Path("/dev/null/../../var/tmp/door").write_text(""),
}


@pytest.mark.parametrize("way", TRIED)
def test_way_through_a_shut_door_is_refused_and_noted(way: str, doors: Doors) -> None:
    with pytest.raises(PermissionError, match="shut door"):
        TRIED[way]()
    assert len(doors.forced) == 1
    doors.forced.clear()


def test_own_directory_is_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    (tmp_path / "a" / "b").rename(tmp_path / "c")
    shutil.rmtree(tmp_path / "a")
    assert Path("/dev/null").write_text("x") == 1


@pytest.mark.allow_commands("python")
def test_named_program_is_let_through_and_no_other(doors: Doors) -> None:
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
    with pytest.raises(PermissionError):
        subprocess.run(["true"], check=True)
    doors.forced.clear()


@pytest.mark.allow_network("127.0.0.1")
def test_named_address_is_let_through_and_no_other(doors: Doors) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        with pytest.raises(PermissionError), socket.socket() as other:
            other.connect(("127.0.0.2", 9))
    doors.forced.clear()
