"""What every look asks of the machine, whatever server that is: commands that only look.

They are begun before the rest of the program is loaded (ahead.py), so nothing of weight is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .paths import CADDYFILE

if TYPE_CHECKING:
    from .server import Server

GPUS = ("nvidia-smi", "-L")
SYNCHRONIZED = ("timedatectl", "show", "-p", "NTPSynchronized")
SSH_CONFIGURED = ("sshd", "-T")
ALL_PACKAGES = ("dpkg-query", "-W", "-f", r"${Package}\t${db:Status-Abbrev}\t${Version}\n")
HELD_LOCKS = ("lslocks", "--noheadings", "--raw", "-o", "PID,COMMAND,PATH")
SPACE = ("df", "-B1", "--output=target,avail,iavail", "--", "/", "/var", "/usr")
APT_PROXY = ("apt-config", "shell", "HTTP", "Acquire::http::Proxy", "HTTPS", "Acquire::https::Proxy")
TABLES = ("nft", "list", "tables")
SAVE = {4: "iptables-save", 6: "ip6tables-save"}
LOADED_RULES = tuple((program, "-t", "filter") for program in SAVE.values())
LISTENERS = ("ss", "-Hltnp")
ADAPT = ("caddy", "adapt", "--adapter", "caddyfile", "--config")

SSH_UNITS = ("ssh.service", "sshd.service", "ssh.socket")
FIREWALLD, PERSISTENT, K3S = "firewalld.service", "netfilter-persistent.service", "k3s.service"
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,User,FragmentPath,"
    "DropInPaths,NeedDaemonReload,ExecStart,EnvironmentFiles,Listen"
)


def show_units(*names: str) -> tuple[str, ...]:
    return ("systemctl", "show", "--no-pager", "-p", UNIT_PROPERTIES, "--", *names)


def units_of_every_look(vllm: str) -> tuple[str, ...]:
    """The units that any step asks for, given vLLM's: they are shown by one command."""
    return (vllm, "caddy.service", "ufw.service", *SSH_UNITS, FIREWALLD, PERSISTENT, K3S)


def begin_together(server: Server, units: Sequence[str], *queries: tuple[str, ...]) -> None:
    """These queries and the listeners, asked while these units are."""
    server.expect((LISTENERS, *queries), units)
    server.units(*units)


# What takes longest first. Where vLLM's unit has another name, its own are shown when the answers are known.
EVERY_LOOK = (
    *((*ADAPT, CADDYFILE), APT_PROXY, show_units(*units_of_every_look("vllm.service")), ALL_PACKAGES, HELD_LOCKS),
    *(SSH_CONFIGURED, GPUS, *LOADED_RULES, LISTENERS, TABLES, SYNCHRONIZED, SPACE),
)
