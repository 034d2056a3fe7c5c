"""What the lab needs of the machine that it runs on."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# command -> package that has it. dnsmasq-base is dnsmasq without a service on the machine's own port 53.
NEEDED = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "dnsmasq": "dnsmasq-base",
    "apt-ftparchive": "apt-utils",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "curl": "curl",
    "gpg": "gnupg",
    "unshare": "util-linux",
    "dpkg-deb": "dpkg",
}
NAMESPACES = "mount -t tmpfs lab /run && mount -t cgroup2 lab /sys/fs/cgroup && ip link add lab0 type bridge"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class LabUnavailable(Exception):
    """This machine cannot run the lab; the message is one sentence that says why."""


class CommandFailed(Exception):
    """A command of the lab itself ended with another code than 0; the message has its last words."""


@dataclass(frozen=True)
class Result:
    """How a command ended. Text is UTF-8; what is not UTF-8 is replaced."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    timeout: float = 600,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run a command; raise CommandFailed on a code other than 0 unless `check` is false.

    At the time limit (seconds) its whole process group is killed and TimeoutExpired raised.
    """
    words = [str(word) for word in argv]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except BaseException:
            os.killpg(process.pid, 9)
            raise
    result = Result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and result.code != 0:
        last = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise CommandFailed(f"{' '.join(words)[:400]} ended with {result.code}: {last}")
    return result


def say(line: str) -> None:
    """Progress of what takes long, one line at a time."""
    print(f"lab: {line}", flush=True)


def require() -> None:
    """Install what is missing; raise LabUnavailable where the lab cannot run."""
    if os.geteuid() != 0:
        raise LabUnavailable("The lab boots servers in namespaces and needs root: run it with sudo.")
    _install_missing()
    try:
        run(
            ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "sh", "-c", NAMESPACES]
        )
    except CommandFailed as failure:
        raise LabUnavailable(
            "The lab needs mount, network and PID namespaces and this machine refuses them "
            f"(a container without privileges?): {failure}"
        ) from failure
    if "overlay" not in Path("/proc/filesystems").read_text():
        run(["sh", "-c", "modprobe overlay"], check=False)  # a container has no modprobe
        if "overlay" not in Path("/proc/filesystems").read_text():
            raise LabUnavailable("The lab needs the overlay file system, which this kernel lacks.")


def _install_missing() -> None:
    missing = {package for command, package in NEEDED.items() if shutil.which(command, path=SEARCH_PATH) is None}
    if not KEYRING.exists():
        missing.add("debian-archive-keyring")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabUnavailable(
            f"The lab needs {', '.join(sorted(missing))}, and this machine has no apt to install them."
        )
    say(f"installing {' '.join(sorted(missing))}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(missing)]
    if run(install, check=False, env=env).code != 0:
        run(["apt-get", "update", "-q"], env=env)
        run(install, env=env)


SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
