"""`./install` on a server that has none of what it needs: all of it, or nothing, and no trace after --remove."""

import functools
import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Server, ServerSpec, cache
from tests.lab.machine import Result, run
from tests.lab.operator import Operator
from tests.lab.program import HOME
from tests.lab.snapshot import Snapshot
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).resolve().parents[2]
PARTS = ("install", "pyproject.toml", "wizard", "templates", "screens")
LAUNCHER = "/usr/local/bin/vllm-https-setup"
WHEELS = "/home/operator/wheels"
THERE = "/home/operator/checkout"
# What apt and dpkg keep of their own work.
APT = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/var/cache/debconf", "/var/log/apt", "/var/log/dpkg.log")
CACHES = ("/etc/ld.so.cache", "/var/cache/ldconfig", "/var/lib/systemd")
LOGINS = ("/var/log/lastlog", "/var/log/wtmp", "/var/log/auth.log", "/var/log/private", "/run", "/home/operator")


@pytest.fixture(scope="module")
def wheels(lab: Lab) -> Path:
    """What `./install --collect` makes for the hosts' Python."""
    place = next((lab.base.layers[0] / "usr/lib").glob("python3.*")).name.removeprefix("python")
    key = cache.key(place, (CHECKOUT / "pyproject.toml").read_text(), (CHECKOUT / "install").read_text())
    return cache.built(f"wheels-{lab.suite}", key, functools.partial(_collect, place))


def _collect(version: str, into: Path) -> None:
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run([CHECKOUT / "install", "--collect", into, "--python", version], timeout=900, env={**os.environ, **own})


@pytest.fixture
def bare(boot: Callable[[ServerSpec], Server], wheels: Path) -> Server:
    """A host with a checkout of the operator's, as a umask of 077 leaves it, and the wheels."""
    server = boot(ServerSpec())
    bring(server, wheels)
    return server


@pytest.fixture(scope="module")
def installed(lab: Lab, wheels: Path) -> Iterator[Server]:
    """One host that has the program. Whoever tries something there leaves it so."""
    server = lab.boot(ServerSpec())
    bring(server, wheels)
    install(server)
    yield server
    server.discard()


def bring(server: Server, wheels: Path) -> None:
    """The checkout and the wheels into the operator's home."""

    def private(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if "__pycache__" in info.name:
            return None
        info.uid, info.gid, info.uname, info.gname = 1000, 37, "operator", "operator"
        info.mode = 0o700 if info.isdir() or info.mode & 0o100 else 0o600
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in PARTS:
            if (CHECKOUT / name).exists():
                tar.add(CHECKOUT / name, f"checkout/{name}", filter=private)
        tar.add(wheels, "wheels", filter=private)
    server.run(["tar", "-x", "-p", "-C", "/home/operator"], stdin=buffer.getvalue())
    server.run(["chown", "operator:operator", THERE])


def call(server: Server, words: str, *, check: bool = False) -> Result:
    """./install, as typed in the checkout by an operator whose umask lets nobody else read."""
    return server.ssh(f"umask 077; cd checkout; sudo ./install {words}", check=check, timeout=180)


def install(server: Server) -> Result:
    result = call(server, f"--wheels {WHEELS}")
    assert result.code == 0, result
    return result


def version(server: Server) -> str:
    return server.ssh("vllm-https-setup --version").stdout.strip()


def listing(server: Server) -> str:
    """Every path of the program with its mode, owner and content, but what Python compiled."""
    words = f"find {HOME} {LAUNCHER} -name __pycache__ -prune -o -printf '%p %y %m %u:%g %l\\n' | sort"
    sums = f"find {HOME} {LAUNCHER} -name __pycache__ -prune -o -type f -exec sha256sum {{}} + | sort -k 2"
    return server.run(["sh", "-c", f"{words}; {sums}"]).stdout


def assert_unchanged(server: Server, before: str) -> None:
    assert listing(server) == before
    assert version(server).startswith("vllm-https-setup ")
    beside = server.run(["sh", "-c", f"ls -d {HOME}.* {LAUNCHER}.* 2>/dev/null"], check=False).stdout
    assert beside == ""


def test_bare_server_gets_the_program_without_an_index_and_plans_with_it(bare: Server, lab: Lab) -> None:
    said = install(bare).stdout
    assert "installing python3-venv" in said
    assert version(bare) == "vllm-https-setup 0.1.0"
    document = Operator(lab, bare).plan()
    assert (document["exit_code"], document["command"]) == (0, "plan")
    wrong = f"find {HOME} {LAUNCHER} ( -not -user root -o -perm /022 -o -not -perm -004 ) -not -type l"
    assert bare.run(wrong.split()).stdout == ""
    assert bare.run(["find", HOME, "-name", "pip", "-o", "-name", "pip-*", "-o", "-name", "*.new*"]).stdout == ""
    assert bare.ssh("cd checkout; find . -name __pycache__").stdout == ""


def test_installing_again_upgrades_and_leaves_nothing_of_the_old_version(bare: Server) -> None:
    install(bare)
    before = listing(bare)
    bare.put(f"{HOME}/lib/of-the-old-version", b"")
    bare.put(f"{THERE}/wizard/__pycache__/model.cpython-311.pyc", b"made by another Python", 0o600)
    bare.run(["sed", "-i", 's/^__version__ = .*/__version__ = "9.9.9"/', f"{THERE}/wizard/__init__.py"])
    bare.run(["mount", "--bind", "-o", "ro", THERE, THERE])
    assert "vllm-https-setup 9.9.9 is installed" in install(bare).stdout
    assert version(bare) == "vllm-https-setup 9.9.9"
    assert [line for line in listing(bare).splitlines() if "wizard/__init__" not in line] == [
        line for line in before.splitlines() if "wizard/__init__" not in line
    ]
    assert "another Python" not in bare.run(["grep", "-rls", "another Python", HOME], check=False).stdout


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("echo 'import no_such_library' >>wizard/cli.py", "the new version does not start"),
        ("echo 'import no_such_library' >>wizard/steps/tls.py", "no_such_library"),
        ("sed -i 's/jinja2>=3.1/jinja2>=99/' pyproject.toml", "jinja2>=99"),
        ("rm -r wizard/cli.py", "no complete checkout"),
    ],
)
def test_broken_upgrade_leaves_the_old_version_working(installed: Server, breaks: str, said: str) -> None:
    before = listing(installed)
    installed.run(["cp", "-a", THERE, f"{THERE}.good"])
    try:
        installed.run(["sh", "-euc", f"cd {THERE}; {breaks}"])
        result = call(installed, f"--wheels {WHEELS}")
    finally:
        installed.run(["sh", "-euc", f"rm -r {THERE}; mv {THERE}.good {THERE}"])
    assert result.code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert_unchanged(installed, before)


def test_upgrade_that_cannot_start_from_its_place_is_taken_back(installed: Server) -> None:
    before = listing(installed)
    installed.run(["cp", "-a", f"{THERE}/wizard/__main__.py", "/root/good"])
    try:
        # Only a copy at the launcher's own place fails: every check before that one passes.
        lines = 'if __file__.startswith("/usr/local"): raise SystemExit("broken here")'
        installed.run(["sed", "-i", f"/^import sys/a {lines}", f"{THERE}/wizard/__main__.py"])
        result = call(installed, f"--wheels {WHEELS}")
    finally:
        installed.run(["mv", "/root/good", f"{THERE}/wizard/__main__.py"])
    assert (result.code, "does not start from its place: broken here" in result.stderr) == (1, True)
    assert_unchanged(installed, before)


@pytest.mark.parametrize("number", ["INT", "KILL"])
def test_upgrade_that_is_ended_halfway_leaves_the_old_version_working(installed: Server, number: str) -> None:
    before = listing(installed)
    with installed.ssh_popen(f"cd checkout; echo $$; exec sudo ./install --wheels {WHEELS}") as process:
        until = Deadline("the new environment's libraries", 60)
        while not installed.run(["sh", "-c", f"ls {HOME}.new/lib/python*/site-packages/jinja2"], check=False).stdout:
            until.tick(0.02)
        pids = installed.run(["pgrep", "-f", f"/bin/sh ./install --wheels {WHEELS}"]).stdout.split()
        installed.run(["kill", f"-{number}", *pids], check=False)
        process.communicate(timeout=60)
        assert process.returncode != 0
    if number == "KILL":
        # pip may go on for a moment, and holds the lock as long as it does.
        installed.run(["flock", "-w", "30", "/opt", "true"])
        assert installed.run(["test", "-e", f"{HOME}.new"], check=False).code == 0
        install(installed)
    assert_unchanged(installed, before)


@pytest.mark.parametrize("room", ["size=10m", "size=200m,nr_inodes=600"])
def test_full_disk_is_said_and_changes_nothing(installed: Server, room: str) -> None:
    before = listing(installed)
    installed.run(["mount", "-t", "tmpfs", "-o", room, "full", "/opt"])
    try:
        result = call(installed, f"--wheels {WHEELS}")
        left = installed.run(["ls", "/opt"]).stdout
    finally:
        installed.run(["umount", "/opt"])
    assert left == ""
    assert (result.code, "the disk is full" in result.stderr) == (1, True)
    assert_unchanged(installed, before)


def test_run_under_way_is_not_pulled_from_under_its_feet(installed: Server) -> None:
    before = listing(installed)
    hold = "mkdir -p /run/vllm-https-setup; exec flock /run/vllm-https-setup/lock sleep 60"
    with installed.ssh_popen(f"sudo sh -c '{hold}'") as process:
        until = Deadline("the lock", 20)
        # 1: another has it. Without its directory, which the holder makes, it is 66 (flock(1), EX_NOINPUT).
        while installed.run(["flock", "-n", "/run/vllm-https-setup/lock", "true"], check=False).code != 1:
            until.tick(0.05)
        for words in (f"--wheels {WHEELS}", "--remove"):
            result = call(installed, words)
            assert (result.code, "a run of vllm-https-setup is under way" in result.stderr) == (1, True)
        installed.run(["fuser", "-k", "/run/vllm-https-setup/lock"], check=False)
        installed.run(["pkill", "-x", "sleep"], check=False)
        process.communicate(timeout=20)
    assert_unchanged(installed, before)


def test_wrong_calls_say_what_is_wrong_and_do_nothing(installed: Server) -> None:
    before = listing(installed)
    for words, said in (("--whels /x", "unknown: --whels"), ("--wheels", "--wheels needs a directory")):
        result = call(installed, words)
        assert (result.code, said in result.stderr) == (2, True)
    result = installed.ssh("cd checkout; ./install", check=False)
    assert (result.code, "this needs root: sudo ./install" in result.stderr) == (2, True)
    result = call(installed, "--wheels /nowhere")
    assert (result.code, "/nowhere is no directory" in result.stderr) == (1, True)
    assert_unchanged(installed, before)


def test_server_without_an_index_is_told_how_to_do_without(installed: Server) -> None:
    before = listing(installed)
    result = call(installed, "")
    assert result.code == 1
    assert "the package index could not be reached" in result.stderr
    assert "--collect DIR" in result.stderr
    result = call(installed, "--wheels /home/operator/.ssh")
    assert (result.code, "./install --collect DIR --python 3." in result.stderr) == (1, True)
    assert_unchanged(installed, before)


OLD_PYTHON = """\
#!/bin/sh
exec /usr/bin/python3.* -I -c 'import sys; sys.version_info = (3, 10, 12, "final", 0); exec(sys.argv[1])' "$3"
"""


def test_server_with_too_old_a_python_or_without_its_archive_is_left_alone(bare: Server, lab: Lab) -> None:
    clean = bare.snapshot()
    bare.run(["mv", "/etc/apt/sources.list", "/root/"])
    lists = "/var/lib/apt/lists"
    bare.run(["sh", "-c", f"mv {lists} /root/lists; mkdir -p {lists}/partial; mv /usr/bin/python3 /root/"])
    bare.put("/usr/bin/python3", OLD_PYTHON.encode(), 0o755)
    result = call(bare, f"--wheels {WHEELS}")
    assert result.code == 1
    assert "Python is too old: /usr/bin/python3 is 3.10, and 3.11 or newer is needed" in result.stderr
    bare.run(["mv", "/root/python3", "/usr/bin/python3"])
    result = call(bare, f"--wheels {WHEELS}")
    assert result.code == 1
    assert "apt-get could not install what is needed" in result.stderr
    assert "python3-venv" in result.stderr
    bare.run(["sh", "-c", f"mv /root/sources.list /etc/apt/; rm -r {lists}; mv /root/lists {lists}"])
    # What was moved away and back is the same as before, and a new file to the overlay.
    assert differences(clean, bare, lab, "/root", "/etc/apt", "/usr/bin/python3") == []


def differences(clean: Snapshot, server: Server, lab: Lab, *exceptions: str) -> list[str]:
    """What differs now: not what logins and apt's own records leave, these exceptions, times, and directories that
    are in the base too (a change below them has the overlay note them)."""
    later = server.snapshot()
    found = []
    for line in clean.differences(later):
        path, _, how = line.partition(": ")
        noted = how == "appeared" and later.files[path].kind == "directory"
        known = noted and any((layer / path.lstrip("/")).is_dir() for layer in lab.base.layers)
        times = how in ("mtime_ns changed", "size, mtime_ns changed")
        session = path == "links" and "/run/systemd/transient" in how
        if not (known or times or session or path.startswith((*LOGINS, *APT, *CACHES, *exceptions))):
            found.append(line)
    return found


def packages(server: Server) -> set[str]:
    return set(server.run(["dpkg-query", "-W", "-f", "${Package}\n"]).stdout.split())


def test_remove_leaves_no_trace_but_apts_packages(bare: Server, lab: Lab) -> None:
    clean, before = bare.snapshot(), packages(bare)
    install(bare)
    bare.ssh("sudo vllm-https-setup answers example")
    result = call(bare, "--remove")
    assert result.code == 0
    assert "removed" in result.stdout
    brought = sorted(packages(bare) - before)
    assert "python3-venv" in brought
    theirs = bare.run(["dpkg", "-L", *brought]).stdout.splitlines()
    files = {path for path in theirs if path.startswith("/") and path != "/."}
    left = [line.partition(": ")[0] for line in differences(clean, bare, lab)]
    assert [path for path in left if path not in files and "__pycache__" not in path] == []
    assert [path for path in left if "vllm-https-setup" in path] == []
    again = call(bare, "--remove")
    assert (again.code, "is not installed" in again.stdout) == (0, True)


def test_remove_keeps_what_was_set_up_and_says_how_to_undo_it(installed: Server) -> None:
    installed.run(["mkdir", "-p", "/etc/vllm-https-setup"])
    unit = "/etc/systemd/system/needs-it.service"
    installed.put(unit, f"[Service]\nExecStart={LAUNCHER} status\n".encode())
    refused = call(installed, "--remove")
    assert (refused.code, unit in refused.stderr, "uninstall" in refused.stderr) == (1, True, True)
    assert version(installed).startswith("vllm-https-setup ")
    installed.run(["rm", unit])
    result = call(installed, "--remove")
    assert result.code == 0
    assert "/etc/vllm-https-setup" in result.stdout
    assert "sudo vllm-https-setup uninstall" in result.stdout
    assert installed.run(["test", "-d", "/etc/vllm-https-setup"], check=False).code == 0
    assert installed.run(["test", "-e", HOME], check=False).code == 1
    installed.run(["rmdir", "/etc/vllm-https-setup"])
    install(installed)


def test_what_is_not_ours_is_neither_replaced_nor_removed(bare: Server) -> None:
    bare.put(LAUNCHER, b"#!/bin/sh\necho somebody else's\n", 0o755)
    for words in (f"--wheels {WHEELS}", "--remove"):
        result = call(bare, words)
        assert (result.code, "not ours" in result.stderr) == (1, True)
    assert bare.get(LAUNCHER) == b"#!/bin/sh\necho somebody else's\n"
    assert bare.run(["test", "-e", HOME], check=False).code == 1
