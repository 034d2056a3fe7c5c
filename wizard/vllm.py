"""vLLM as the server runs it: found from its unit, so that every step speaks of the same script, port and key."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass

from .engine import Look
from .launching import Launching, find_launching
from .model import Probe, Secret
from .parse.environment import parse_environment
from .parse.launch import VllmCommand
from .parse.units import parse_environment_files, parse_exec_start
from .server import FileState, Listener, Request, Server, Unit

DEFAULT_PORT = 8000
KEY_NAME = "VLLM_API_KEY"


@dataclass(frozen=True)
class Vllm:
    """What was found; None or empty where it was not. `port` is what the launch command says, or vLLM's default."""

    unit: Unit
    user: str
    environment_files: tuple[str, ...]
    environment_missing: tuple[str, ...]
    key: Secret | None
    key_file: str
    port: int
    listeners: tuple[Listener, ...]
    launching: Launching

    @property
    def script_path(self) -> str:
        """The launch script; or the unit's file, where that has the command itself."""
        return self.launching.path

    @property
    def script(self) -> FileState | None:
        return self.launching.state

    @property
    def command(self) -> VllmCommand | None:
        return self.launching.command

    @property
    def exposed(self) -> tuple[Listener, ...]:
        """The listeners of its control group that other machines can reach, where no firewall stops them."""
        return tuple(one for one in self.listeners if not one.is_loopback)

    @property
    def own_listeners(self) -> tuple[Listener, ...]:
        return tuple(one for one in self.listeners if one.port == self.port)

    @property
    def upstream(self) -> str:
        """Where the proxy finds it: the loopback address that it listens on."""
        addresses = {one.address for one in self.own_listeners}
        return f"[::1]:{self.port}" if addresses == {"::1"} else f"127.0.0.1:{self.port}"

    def request(self, path: str, *, with_key: bool, timeout_s: float = 5) -> Request:
        """A request to vLLM itself, at the address that it listens on."""
        addresses = [one.address for one in self.own_listeners]
        direct = [address for address in addresses if address not in ("0.0.0.0", "::", "127.0.0.1")]
        address = direct[0] if direct and "127.0.0.1" not in addresses else "127.0.0.1"
        if any(one.is_wildcard for one in self.own_listeners):
            address = "127.0.0.1"
        bearer = self.key if with_key else None
        return Request(address, self.port, path=path, bearer=bearer, timeout_s=timeout_s)


def find_vllm(look: Look) -> Vllm:
    """vLLM as its unit, launch script and env file describe it. Its secrets are masked from here on."""
    wanted = look.answers.vllm
    unit = look.server.units(wanted.unit)[wanted.unit]
    script_path = wanted.launch_script if wanted.launch_script != "auto" else _script_of(unit)
    files, missing, variables, key, key_file = _environment(look, unit)
    launching = find_launching(look, unit, script_path, variables)
    said = launching.command.port if launching.command else None
    port = wanted.port if isinstance(wanted.port, int) else said or DEFAULT_PORT
    listeners = tuple(one for one in look.server.listeners() if one.unit == wanted.unit)
    user = unit.properties.get("User", "") or "root"
    return Vllm(unit, user, files, missing, key, key_file, port, listeners, launching)


def _script_of(unit: Unit) -> str:
    """The script that ExecStart runs: its program, or what it gives to a shell as first argument."""
    argv = parse_exec_start(unit.properties.get("ExecStart", ""))
    if len(argv) > 1 and posixpath.basename(argv[0]) in ("bash", "sh", "dash"):
        return next((word for word in argv[1:] if not word.startswith("-")), "")
    return argv[0] if argv else ""


def _environment(look: Look, unit: Unit) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str], Secret | None, str]:
    """The env files that are there, those that are missing, what they set, the key and where it is: the last file
    decides."""
    wanted = look.answers.vllm.env_file
    if wanted != "auto":
        paths = [(wanted, False)]
    else:
        paths = list(parse_environment_files(unit.properties.get("EnvironmentFiles", "")))
    found, missing, key, key_file = [], [], None, ""
    variables: dict[str, str] = {}
    for path, optional in paths:
        state = look.server.read(path)
        if state is None or state.kind != "file":
            if not optional:
                missing.append(path)
            continue
        found.append(path)
        environment = parse_environment(state.text)
        for entry in environment.entries:
            look.mask.add_environment(entry.name, entry.value)
            variables[entry.name] = entry.value
        if value := environment.value(KEY_NAME):
            key, key_file = Secret(value), path
    return tuple(found), tuple(missing), variables, key, key_file


def last_words(server: Server, unit: str) -> str:
    """The last line that the unit's own processes wrote: `-u` would give systemd's words about it."""
    own = f"_SYSTEMD_UNIT={unit}"
    output = server.query(("journalctl", "--no-pager", "-q", "-o", "cat", "-n", "1", own), timeout_s=10)
    return output.out.strip()[-300:]


def answers_in_shell(vllm: Vllm, *, bound_to: str = "") -> str:
    """The look of `Readiness` as a command of the exported script."""
    address = bound_to or vllm.request("/v1/models", with_key=False).address
    url = f"http://[{address}]:{vllm.port}" if ":" in address else f"http://{address}:{vllm.port}"
    words = ["vllm_answers", vllm.unit.name, url, *([f"{bound_to}:{vllm.port}"] if bound_to else [])]
    return shlex.join(words)


class Readiness:
    """The look of a wait for vLLM: answers, still loading (with its own last words), or failed."""

    def __init__(self, look: Look, *, bound_to: str | None = None) -> None:
        self._look = look
        self._bound_to = bound_to
        self._restarts: str | None = None
        self._looks = 0

    def __call__(self, server: Server) -> Probe:
        self._looks += 1
        vllm = find_vllm(self._look)
        if self._restarts is None:
            self._restarts = vllm.unit.properties.get("NRestarts", "0")
        if vllm.unit.active == "failed" or vllm.unit.properties.get("NRestarts", "0") != self._restarts:
            said = last_words(server, vllm.unit.name)
            return Probe(False, f"vLLM has failed: {said}")
        if vllm.own_listeners:
            addresses = {one.address for one in vllm.own_listeners}
            if self._bound_to is not None and addresses != {self._bound_to}:
                return Probe(None, f"still listening on {', '.join(sorted(addresses))}")
            response = server.vllm_ready(vllm.request("/v1/models", with_key=True))
            if response.status in (200, 401):
                return Probe(True, "vLLM answers")
        # vLLM's words cost a command: not in the first moments, when most waits are over.
        return Probe(None, last_words(server, vllm.unit.name) if self._looks > 8 else "loading")
