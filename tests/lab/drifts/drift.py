"""One way in which a server that was set up can drift, and what becomes of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """`make` is the shell command that makes it so; `key` and `level` are the finding that `status` names.

    `repaired` are all changes of the repair, in words, but for the firewall's undo, which is armed and taken away
    around each change of it. Where a person is needed, `stops` has what the repair says (exit code `code`), and
    `by_hand` is what the person types; `repaired` is then what the next repair does. `kept` are words of an edit by
    hand, which the diff and the run's backup must have. `new_root`: clients are said to need Caddy's new root.
    `console`: there is no way in over SSH. `cleanup` takes back what the repair rightly leaves.
    """

    name: str
    make: str
    key: str
    repaired: tuple[str, ...] = ()
    level: str = "drift"
    stops: tuple[str, ...] = ()
    code: int = 3
    by_hand: str = ""
    kept: str = ""
    new_root: bool = False
    console: bool = False
    cleanup: str = ""


# What several of them say or do.
CADDYFILE = "/etc/caddy/Caddyfile"
SCRIPT, UNIT, ENV = "/opt/vllm/start-vllm.sh", "/etc/systemd/system/vllm.service", "/etc/vllm/vllm.env"
START_CADDY = "run systemctl reload-or-restart caddy.service"
WRITE_CADDYFILE = (f"write {CADDYFILE}", START_CADDY)
INSTALL = "run apt-get install -y -q -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef"
INSTALL_CADDY = f"{INSTALL} -o Dpkg::Options::=--force-confold --no-install-recommends -- caddy"
# systemd is told of the service that has just been installed: its package is kept from that.
TAKE_UP = "run systemctl daemon-reload"
BLOCKED = "blocked"


def until_vllm(port: int = 8000) -> str:
    """The command that waits for vLLM's listener."""
    return f"until ss -Hltn | grep -q ':{port} '; do sleep 0.05; done"


def with_copy(path: str, change: str) -> str:
    """A change of a file whose first state is kept for `put_back`."""
    return f"cp -a {path} /root/kept; {change}"


def put_back(path: str) -> str:
    return f"rm -f {path}; mv /root/kept {path}"
