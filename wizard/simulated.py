"""The demo's server: an overlay of a described one, on which actions take their time and say what they would say.

What the description has is read from it; what a visitor's own answers bring up is made here. Nothing of the machine
that this runs on is read, run or asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from . import simulated_internet as internet
from . import simulated_words as words
from .acme import STORAGE
from .answers import Answers
from .described import DescribedMachine, Description, Table
from .facts import Facts
from .model import (
    Action,
    CaddyRuns,
    Effect,
    FileIs,
    FirewallIs,
    Output,
    RuleIs,
    Run,
    VllmAnswers,
    Wait,
    Write,
)
from .overlay import Overlay
from .parse.netfilter import Packet, evaluate
from .paths import CADDYFILE, REVERT_SERVICE
from .probe import GRACE_S
from .server import DnsAnswer, FileState, Firewall, Package, Reach, Request, Response, Target, Unit
from .simulated_web import Web, loaded_rules
from .system import Nobody, Observer, written_out
from .waiting import wait

VLLM = "vllm.service"
CHAIN, KEY = "/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem"
OLD_CHAIN, OLD_KEY = "/etc/ssl/old/chain.pem", "/etc/ssl/old/key.pem"
PAIRS = (CHAIN, KEY, OLD_CHAIN, OLD_KEY)
DAY_S = 86400
CLIENT = "192.0.2.2"
NAMESPACE_S = 0.35


class Clock:
    """Time on the simulated server: a second of it is `pace` real seconds. At pace 0 it goes on by sleeping alone."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._began = time.monotonic()
        self._slept = 0.0

    def now(self) -> float:
        return (time.monotonic() - self._began) / self._pace if self._pace else self._slept

    def sleep(self, seconds: float) -> None:
        if self._pace:
            time.sleep(seconds * self._pace)
        else:
            self._slept += seconds


class SimulatedMachine(DescribedMachine):
    """The described machine, and beside it what no description can have: any domain, any unit's name, a visitor's
    own paths. `domain` is what its certificate files are for; `typed` are paths that were answered."""

    def __init__(self, description: Description, tables: Table, clock: Clock) -> None:
        super().__init__(description)
        self.clock = clock
        self.domain = ""
        self.typed: frozenset[str] = frozenset()
        self.offered: dict[str, str] = tables["offered"]
        self._units: dict[str, str] = {one["name"]: one["show"] for one in tables["units"]}

    def note(self, answers: Answers) -> None:
        """What was answered: there may be no file by these paths, and the certificate files are for this domain."""
        tls, vllm = answers.tls, answers.vllm
        given = (tls.certificate, tls.private_key, tls.acme_ca_file, tls.eab_file)
        of_services = [path for one in (vllm, *vllm.more) for path in (one.launch_script, one.env_file)]
        self.typed |= {path for path in (*given, *of_services) if path is not None and path != "auto"}
        self.domain = tls.domain or self.domain

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Output:
        self.clock.sleep(0.3 if argv[0] == "nvidia-smi" else 0.03)
        if tuple(argv[:2]) == ("systemctl", "show"):
            return Output(0, "\n".join(self._show(name) for name in argv[list(argv).index("--") + 1 :]))
        return super().command(argv, timeout_s=timeout_s, stdin=stdin, environment=environment)

    def _show(self, name: str) -> str:
        """systemd knows every name: a unit that there is not is not-found."""
        unknown = f"Id={name}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
        return self._units.get(name, unknown)

    def read(self, path: str) -> FileState | None:
        now = self.description.now
        if path in (CHAIN, KEY) and self.domain:
            pair = internet.make_pair(self.domain, "Example Corp Issuing CA", now - 30 * DAY_S, 365)
            return _pem(path, KEY, pair)
        if path in (OLD_CHAIN, OLD_KEY) and self.domain:
            pair = internet.make_pair(self.domain, "Example Corp Issuing CA", now - 400 * DAY_S, 365)
            return _pem(path, OLD_KEY, pair)
        below = path.rstrip("/") + "/"
        if path not in self.description.files and any(one.startswith(below) for one in (*PAIRS, *self.typed)):
            return FileState("directory", mode=0o755)
        if path.startswith(STORAGE) or (path in self.typed and path not in self.description.files):
            return None
        return super().read(path)

    def names(self, directory: str) -> tuple[str, ...]:
        """No CA has issued anything to the described machine; what one issues later is told by its server."""
        return () if directory.startswith(STORAGE) else super().names(directory)

    def browse(self, directory: str) -> tuple[tuple[str, bool], ...]:
        """The described files below a directory, and the certificates, as a file picker wants them."""
        known = [path for path, state in self.description.files.items() if state is not None]
        below = directory.rstrip("/") + "/"
        rest = [path.removeprefix(below) for path in (*known, CHAIN, KEY, OLD_CHAIN, OLD_KEY) if path.startswith(below)]
        found = {(one.partition("/")[0], "/" in one) for one in rest}
        return tuple(sorted(found, key=lambda one: (not one[1], one[0])))

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        self.clock.sleep(0.2)
        if url in self.description.fetches:
            return super().fetch(url, timeout_s, ca_file)
        return internet.fetch(url, self.description.now)

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        self.clock.sleep(0.03)
        return internet.resolve(name, kind, server)

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        return self.description.connections.get(tuple(ports), ())


def _pem(path: str, key: str, pair: tuple[bytes, bytes, bytes]) -> FileState:
    return FileState("file", pair[1], 0o600) if path == key else FileState("file", pair[0])


class SimulatedServer(Overlay):
    """Carries actions out: their effects become true, in their time. Its own threads may look while one performs.

    `proof`: whether packets from outside can be sent. `failing`: so many of vLLM's next starts fail.
    """

    def __init__(self, machine: SimulatedMachine, *, proof: bool = True, failing: int = 0) -> None:
        super().__init__(Facts(machine))
        self.machine = machine
        self.clock = machine.clock
        self.observer: Observer = Nobody()
        self._proof = proof
        self._failing = failing
        self._lock = threading.RLock()
        self._loading_since: float | None = None
        self._has_failed = False
        self._caddy_since = 0.0
        self._kept_firewall: tuple[list[RuleIs], FirewallIs] | None = None
        self._web = Web(self)

    def look_again(self, description: Description | None = None) -> None:
        """What is described is asked anew; or another description, where somebody has put the server right."""
        if description is not None:
            self.machine.description = description
        self.below = Facts(self.machine)

    # ── looking ──

    def read(self, path: str) -> FileState | None:
        with self._lock:
            if path.startswith(STORAGE) and path.endswith(".crt"):
                return self._issued(path)
            return self.machine.read(path) if path in PAIRS else super().read(path)

    def _issued(self, path: str) -> FileState | None:
        """The certificate that a CA has issued to Caddy, from its moment on."""
        running = self.running_caddyfile()
        domain = path.rpartition("/")[2].removesuffix(".crt")
        if "issuer acme" not in running or f"https://{domain} " not in running:
            return None
        if self.clock.now() - self._caddy_since < words.ISSUED_AFTER_S:
            return None
        issuer = "(STAGING) Riddling Rhubarb R12" if "staging" in path else "Let's Encrypt R12"
        chain, _, _ = internet.make_pair(domain, issuer, self.now() - 3600, 90)
        return FileState("file", chain, 0o600, "caddy", "caddy")

    def has_certificate(self, domain: str) -> bool:
        return self._issued(f"{STORAGE}/{domain}.crt") is not None

    def running_caddyfile(self) -> str:
        """What Caddy runs now; "" where it does not run."""
        state = self._caddy.get(CADDYFILE)
        return state.text if state is not None and self.units("caddy.service")["caddy.service"].is_active else ""

    def names(self, directory: str) -> tuple[str, ...]:
        with self._lock:
            return super().names(directory)

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        if argv[0] == "journalctl":
            return Output(0, self._vllm_says() if f"_SYSTEMD_UNIT={VLLM}" in argv else self._caddy_says())
        return super().query(argv, timeout_s, stdin)

    def _vllm_says(self) -> str:
        if self._has_failed:
            return words.FAILURE
        passed = self._loading_for()
        said = [text for at, text in words.LOADING if passed is None or at <= passed]
        return said[-1]

    def _caddy_says(self) -> str:
        by_443 = "disable_http_challenge" in self.running_caddyfile()
        passed = self.clock.now() - self._caddy_since
        lines = (
            {"level": "info", "ts": self.now() + at, "logger": logger, "msg": text}
            for at, logger, text in words.issuance(by_443=by_443)
            if at <= passed
        )
        return "\n".join(json.dumps(line) for line in lines)

    def units(self, *names: str) -> dict[str, Unit]:
        with self._lock:
            found = super().units(*names)
        if VLLM in found and self._has_failed_by_now():
            properties = {**found[VLLM].properties, "Result": "exit-code"}
            found[VLLM] = replace(found[VLLM], active="failed", sub="failed", properties=properties)
        return found

    def packages(self, *names: str) -> dict[str, Package]:
        offered = self.machine.offered
        return {
            name: replace(package, version=offered.get(name, ""))
            if package.installed and not package.version
            else package
            for name, package in super().packages(*names).items()
        }

    def firewall(self) -> Firewall:
        with self._lock:
            found = super().firewall()
        kernel4, kernel6 = (loaded_rules(found, family) for family in (4, 6))
        return replace(found, loaded=found.enabled, kernel4=kernel4, kernel6=kernel6)

    def exchange(self, request: Request) -> Response:
        response = self._web.answer(request)
        if response is None:
            return super().exchange(request)
        self.clock.sleep(response.ms / 1000)
        return response

    def vllm_ready(self, request: Request) -> Response:
        return self.exchange(request)

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        if not targets:
            return ()
        named = "\n".join(one.line for one in targets)
        self.observer.command(f"unshare --net -- python3 -I -S probe.py 0.3 <<'END'\n{named}\nEND")
        if not self._proof:
            self.observer.ended(1, 0.01)
            return tuple(Reach(one, "unknown", "this server allows no new network namespace") for one in targets)
        reached = tuple(self._reach(one) for one in targets)
        seconds = NAMESPACE_S + max(one.ms for one in reached) / 1000
        self.clock.sleep(seconds)
        self.observer.ended(0, seconds)
        return reached

    def _reach(self, target: Target) -> Reach:
        kernel = self.firewall().kernel4
        packet = Packet("tcp", target.port, CLIENT, "vhs-out", destination=target.address)
        if kernel is None or evaluate(kernel, packet).result != "accept":
            return Reach(target, "filtered", "no answer", 1000 * GRACE_S + 0.6)
        return Reach(target, "open" if self._web.listens(target.address, target.port) else "refused", "", 1.4)

    def is_vllm_ready(self) -> bool:
        passed = self._loading_for()
        return not self._has_failed_by_now() and (passed is None or passed >= words.LOADING_S)

    def _loading_for(self) -> float | None:
        return None if self._loading_since is None else self.clock.now() - self._loading_since

    def _has_failed_by_now(self) -> bool:
        with self._lock:
            passed = self._loading_for()
            if self._failing and passed is not None and passed >= words.FAILS_AFTER_S:
                self._failing -= 1
                self._has_failed = True
            return self._has_failed

    # ── doing ──

    def make_true(self, effect: Effect) -> None:
        with self._lock:
            match effect:
                case VllmAnswers(ready=False):
                    self._loading_since, self._has_failed = self.clock.now(), False
                case VllmAnswers(ready=True):
                    self._loading_since = None
                case FileIs(path=path) if path.startswith(STORAGE):
                    return
                case CaddyRuns():
                    self._caddy_since = self.clock.now()
            super().make_true(effect)

    def perform(self, action: Action) -> Output:
        match action:
            case Run():
                return self._run(action)
            case Wait():
                return self._wait(action)
            case Write() if action.validate:
                copy = f"{action.path}.new"
                self._say(tuple(word.replace("{path}", copy) for word in action.validate))
        return self._perform(action)

    def _perform(self, action: Action) -> Output:
        with self._lock:
            return super().perform(action)

    def _say(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        seconds, text = words.said(argv, self.machine.offered)
        self.observer.command(written_out(argv, environment))
        lines = text.splitlines(keepends=True)
        for line in lines:
            self.clock.sleep(seconds / len(lines))
            self.observer.output(line)
        if not lines:
            self.clock.sleep(seconds)
        self.observer.ended(0, seconds)
        return text

    def _run(self, action: Run) -> Output:
        text = self._say(action.argv, dict(action.environment))
        with self._lock:
            if action.argv[0] == "install" and "/etc/ufw/user.rules" in action.argv:
                self._kept_firewall = (list(self._rules), self._firewall)
            if action.argv == ("systemctl", "start", REVERT_SERVICE) and self._kept_firewall is not None:
                self._rules, self._firewall = self._kept_firewall
        self._perform(action)
        return Output(0, text)

    def _wait(self, action: Wait) -> Output:
        output = wait(self, action, clock=self.clock.now, sleep=self.clock.sleep, tell=self.observer.progress)
        if output.ok:
            self._perform(action)
        return output
