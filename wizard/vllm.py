"""vLLM as the server runs it: found from its unit, so that every step speaks of the same script, port and key."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from .engine import Look
from .launching import Launching, find_launching
from .model import Probe, Secret
from .parse.error_line import line_of_error
from .parse.launch import Launch, VllmCommand, parse_launch
from .parse.start import Start, parse_start
from .queries import begin_together
from .server import CONNECTION_REFUSED, FileState, Listener, Request, Server, Unit
from .unit_log import SYNC, said_by
from .vllm_environment import VllmEnvironment, read_environment

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class Vllm:
    """What was found; None or empty where it was not. `port` is what the launch command says, or vLLM's default."""

    unit: Unit
    user: str
    start: Start
    environment: VllmEnvironment
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
    def launch(self) -> Launch:
        return self.launching.launch

    @property
    def key(self) -> Secret | None:
        return self.environment.key

    @property
    def key_file(self) -> str:
        return self.environment.key_file

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
    start = parse_start(unit.properties.get("ExecStart", ""))
    script_path = wanted.launch_script if wanted.launch_script != "auto" else start.script
    itself = start.launch if wanted.launch_script == "auto" else None
    script = look.server.read(script_path) if script_path and itself is None else None
    launch = parse_launch(script.content) if script and script.kind == "file" else itself or Launch((), None)
    setting = (script_path, script)
    if itself is not None:
        # Its file is systemd's, and everybody may read it; what it exports is in the program that it gives to a shell.
        text = FileState("file", start.program_text.encode()) if start.program_text else None
        setting = (unit.properties.get("FragmentPath", ""), text)
    environment = read_environment(look, unit, *setting, launch)
    known = {name: one.value for name, one in environment.variables.items() if one.path != setting[0]}
    launching = find_launching(
        look, unit, script_path, {name: value for name, value in known.items() if value is not None}
    )
    command = launching.command or launch.command
    said = command.port if command else None
    port = wanted.port if isinstance(wanted.port, int) else said or DEFAULT_PORT
    listeners = tuple(one for one in look.server.listeners() if one.unit == wanted.unit)
    user = unit.properties.get("User", "") or "root"
    return Vllm(unit, user, start, environment, port, listeners, launching)


def last_words(server: Server, unit: str) -> str:
    """The last line that the unit's own processes wrote."""
    return server.query(said_by(unit, "-n", "1"), timeout_s=10).out.strip()[-300:]


def words_of_failure(server: Server, unit: str) -> str:
    """Why it ended: systemd may have begun the next try already, whose words come after it."""
    server.query(SYNC, timeout_s=10)
    return line_of_error(server.query(said_by(unit, "-n", "50"), timeout_s=10).out)[-300:]


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
        self._asked: Request | None = None

    def __call__(self, server: Server) -> Probe:
        self._looks += 1
        # The unit, and vLLM's words, cost commands: not each time in the first second, when most waits are over.
        early = self._looks <= 25
        if early and self._looks % 5 and self._asked and server.vllm_ready(self._asked).error == CONNECTION_REFUSED:
            return Probe(None, "loading")
        begin_together(server, (self._look.answers.vllm.unit,))
        vllm = find_vllm(self._look)
        self._asked = vllm.request("/v1/models", with_key=True)
        if self._restarts is None:
            self._restarts = vllm.unit.properties.get("NRestarts", "0")
        restarted = vllm.unit.properties.get("NRestarts", "0") != self._restarts
        if restarted or vllm.unit.active == "failed" or vllm.unit.sub == "auto-restart":
            return Probe(False, f"vLLM has failed: {words_of_failure(server, vllm.unit.name)}")
        if vllm.own_listeners:
            addresses = {one.address for one in vllm.own_listeners}
            if self._bound_to is not None and addresses != {self._bound_to}:
                return Probe(None, f"still listening on {', '.join(sorted(addresses))}")
            if server.vllm_ready(self._asked).status in (200, 401):
                return Probe(True, "vLLM answers")
        return Probe(None, "loading" if early else last_words(server, vllm.unit.name))
