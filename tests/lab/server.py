"""One booted host of the lab."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import cache
from tests.lab.layers import lowerdir
from tests.lab.machine import SEARCH_PATH, CommandFailed, Result, run
from tests.lab.outside import Outside
from tests.lab.snapshot import Snapshot, take
from tests.lab.space import CGROUPS, Deadline, Space, children, kill
from tests.lab.spec import File, ServerSpec, archive, initial_files

ENVIRONMENT = {"PATH": SEARCH_PATH, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "TERM": "dumb"}

MOUNT = """\
mkdir -p "$2/root" "$2/upper" "$2/work"
chmod 755 "$2/upper"
mount -t overlay lab -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
"""
CHROOT = """\
cd "$1"
mount -t proc proc proc
mount -t tmpfs lab dev
mknod -m 666 dev/null c 1 3
ln -s /proc/self/fd/0 dev/stdin
shift
exec chroot . "$@"
"""


class Server:
    """A host: boots, is entered, loses its power, is thrown away with the lab."""

    def __init__(
        self, space: Space, outside: Outside, spec: ServerSpec, layers: Sequence[Path], name: str, number: int
    ) -> None:
        self.spec = spec
        self.name = name
        self.number = number
        self.address = f"10.91.{1 + number // 250}.{1 + number % 250}"
        self.address6 = f"fd91::1:{number:x}"
        self._space = space
        self._outside = outside
        self._disk = space.disk / "hosts" / name
        self._log = space.files / f"{name}.console.log"
        self._layers = tuple(layers)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._gone = False

    @property
    def reached_at(self) -> str:
        """The address that the operator logs in to."""
        return self.address6 if self.spec.by_ipv6 else self.address

    @property
    def upper(self) -> Path:
        """The overlay's whole upper directory: all that is on this host and not in its layers."""
        return self._space.inside(self._disk / "upper")

    @property
    def root(self) -> Path:
        """The host's root as the machine sees it; absolute links in it lead out of it: use get and put."""
        return self._space.inside(self._disk / "root")

    @property
    def leader(self) -> int:
        """The process id, seen from the machine, of the host's first process; 0 while there is none."""
        if self._nspawn is None:
            return 0
        for shell in children(self._nspawn.pid):
            for nspawn in children(shell):
                for first in children(nspawn):
                    if _is_first(first):
                        return first
        return 0

    def prepare(self, public_key: str) -> None:
        """Mount the overlay and write the host's own files; the host is not started."""
        self._space.run(["sh", "-c", MOUNT, "sh", lowerdir(self._layers), self._disk])
        own = (f"{self.address}/16", f"{self.address6}/64")
        wants = "/etc/systemd/system/multi-user.target.wants"
        links = {f"{wants}/vllm.service": "/etc/systemd/system/vllm.service"} if self.spec.vllm_enabled else {}
        if self.spec.ssh_socket:
            links["/etc/systemd/system/sockets.target.wants/ssh.socket"] = "/lib/systemd/system/ssh.socket"
            self._chroot(["rm", "-f", f"{wants}/ssh.service", "/etc/systemd/system/sshd.service"])
        self._extract(initial_files(self.spec, self.name, own, public_key), links)
        for rule in self.spec.ufw_rules:
            self._chroot(["ufw", *rule.split()])
        if self.spec.ufw_enabled:
            self._chroot(["sed", "-i", "s/^ENABLED=no/ENABLED=yes/", "/etc/ufw/ufw.conf"])

    def _extract(self, files: Mapping[str, File], links: Mapping[str, str]) -> None:
        unpack = ["tar", "-x", "-p", "--numeric-owner", "-C", f"{self._disk}/root"]
        self._space.run(unpack, stdin=archive(files, links))

    def _chroot(self, argv: Sequence[str], stdin: bytes = b"") -> Result:
        """Run a command in the root of a host that is off."""
        inside = ["sh", "-c", CHROOT, "sh", f"{self._disk}/root", "env", "-i", *_assignments(), *argv]
        return self._space.run(["unshare", "--mount", *inside], stdin=stdin)

    def start(self) -> None:
        """Power on; returns at once. See wait_until_up."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            raise RuntimeError(f"{self.name} runs already")
        host = cache.HERE / "files/host.sh"
        group = f"{CGROUPS}-{self._space.id}/{self.name}"
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                self._space.enter(["sh", host, self.name, self._disk / "root", group]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},
            )

    def wait_until_up(self, timeout: float = 60, *, vllm: bool = True) -> None:
        """Wait for the end of the boot, the listener of SSH and (unless it is disabled) vLLM's answer."""
        until = Deadline(f"{self.name} to boot (its console: {self._log})", timeout)
        while not (leader := self.leader) or not Path(f"/proc/{leader}/root/run/systemd/private").exists():
            if self._nspawn is None or self._nspawn.poll() is not None:
                raise CommandFailed(f"{self.name} did not boot: {self.console()[-2000:]}")
            until.tick()
        state = self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=timeout).stdout.strip()
        if state not in ("running", "degraded"):
            raise CommandFailed(f"{self.name} booted into {state!r}: {self.console()[-2000:]}")
        ports = {self.spec.ssh_port, self.spec.vllm_port} if vllm and self.spec.vllm_enabled else {self.spec.ssh_port}
        while not ports <= self.listening():
            until.tick(0.03)

    def listening(self) -> set[int]:
        """All TCP ports that something on this host listens on."""
        rows = self.run(["ss", "-Hltn"]).stdout.splitlines()
        return {int(row.split()[3].rpartition(":")[2]) for row in rows}

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command on the host as root, without a shell, a terminal or a login."""
        return run(self.enter(argv, env), check=check, timeout=timeout, stdin=stdin)

    def enter(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The argument list that runs `argv` on the host as root, from the machine."""
        leader = self.leader
        if not leader:
            raise CommandFailed(f"{self.name} is not running")
        nsenter = ["nsenter", "-t", str(leader), *["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]]
        # in the host's control groups: its systemd knows the process, and a power loss takes it too
        procs = self._space.cgroup(self.name) / "payload/lab.scope/cgroup.procs"
        join = ["sh", "-c", 'mkdir -p "${1%/*}" && echo 0 >"$1" && shift && exec "$@"', "sh", str(procs)]
        return [*join, *nsenter, "env", "-i", *_assignments(env), *argv]

    def ssh(
        self,
        command: str,
        *,
        user: str = "operator",
        tty: bool = False,
        check: bool = True,
        timeout: float = 60,
        stdin: bytes = b"",
    ) -> Result:
        """Log in from the machine outside with the real client and run a command line there."""
        return run(self.ssh_argv(command, user=user, tty=tty), check=check, timeout=timeout, stdin=stdin)

    def ssh_popen(self, command: str, *, user: str = "operator", tty: bool = False) -> subprocess.Popen[bytes]:
        """The same, left running: its three streams are pipes, its process group its own."""
        pipe = subprocess.PIPE
        argv = self.ssh_argv(command, user=user, tty=tty)
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def ssh_argv(
        self, command: str = "", *, user: str = "operator", tty: bool = False, options: Sequence[str] = ()
    ) -> list[str]:
        """The argument list of such a login, to be run on the machine."""
        words = [*self._outside.ssh_words, *(["-tt"] if tty else []), *options]
        login = [*words, "-p", str(self.spec.ssh_port), f"{user}@{self.reached_at}"]
        return self._space.enter([*login, *([command] if command else [])], outside=True)

    def outside_popen(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Leave a program running on the machine outside, such as a client of this host: its output is a pipe."""
        return subprocess.Popen(self._outside.enter(argv), stdout=subprocess.PIPE, start_new_session=True)

    def put(self, path: str, content: bytes, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file on the host, running or not."""
        user, _, group = owner.partition(":")
        argv = ["install", "-D", "-m", f"{mode:o}", "-o", user, "-g", group or user, "/dev/stdin", path]
        if self.leader:
            self.run(argv, stdin=content)
        else:
            self._chroot(argv, stdin=content)

    def get(self, path: str) -> bytes:
        """The content of a file on the host, running or not."""
        argv = ["base64", "-w0", path]
        found = self.run(argv) if self.leader else self._chroot(argv)
        return base64.b64decode(found.stdout)

    def standin(self, **settings: object) -> None:
        """Change how the vLLM stand-in behaves (see standin.py): some at once, some at its next start."""
        place = "/etc/vllm-standin.json"
        self.put(place, json.dumps(json.loads(self.get(place)) | settings).encode())

    def reboot(self, timeout: float = 60) -> None:
        """An orderly restart of the whole host."""
        before = self.leader
        self.run(["systemctl", "reboot"], check=False)
        until = Deadline(f"{self.name} to go down", timeout)
        while self.leader == before:
            until.tick()
        self.wait_until_up(timeout)

    def shutdown(self, timeout: float = 60) -> None:
        """An orderly end; `start` boots it again."""
        self.run(["systemctl", "poweroff"], check=False)
        assert self._nspawn is not None
        self._nspawn.wait(timeout)

    def kill(self, *, boot: bool = True, timeout: float = 60) -> None:
        """Power loss: everything dies at once, what was written stays; then boot again."""
        (self._space.cgroup(self.name) / "cgroup.kill").write_text("1")
        assert self._nspawn is not None
        for pid in children(self._nspawn.pid):
            kill(pid)
        self._nspawn.wait(timeout)
        if boot:
            self.start()
            self.wait_until_up(timeout)

    def discard(self) -> None:
        """Power off for good, and free its disk. May be called twice."""
        if self._gone:
            return
        self._gone = True
        if self._nspawn is not None and self._nspawn.poll() is None:
            self.kill(boot=False)
        self._space.run(["umount", self._disk / "root"])
        self._space.run(["rm", "-rf", self._disk])

    def close(self) -> None:
        """Wait for the process that booted the host, which the lab's end has ended."""
        if self._nspawn is not None:
            self._nspawn.wait()

    def snapshot(self) -> Snapshot:
        """The host's state, to be compared: changed files, the loaded firewall, units and links."""
        return take(self.upper, self.run)

    def console(self) -> str:
        """What the host wrote to its console since its first boot."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _assignments(env: Mapping[str, str] | None = None) -> list[str]:
    return [f"{name}={value}" for name, value in {**ENVIRONMENT, **(env or {})}.items()]


def _is_first(pid: int) -> bool:
    """Whether a process is the first of a PID namespace below the lab's (nspawn's helper is not)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        exe = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False
    ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return ids[-1] == "1" and exe.endswith("/systemd")
