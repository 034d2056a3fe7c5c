"""A server on top of another: what actions make true, without doing them.

`plan` runs the loop of `apply` on the overlay of the real server; the tests' servers and the demo are overlays of
a described one. What no effect has touched is answered by the server below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .model import (
    Action,
    CaddyRuns,
    DropInRead,
    Effect,
    FileCopied,
    FileIs,
    FirewallIs,
    ListensOn,
    Output,
    PackageIs,
    QuerySays,
    Remove,
    RuleIs,
    UnitIs,
    UnitRead,
    VllmAnswers,
    Write,
)
from .parse.ufw import UfwRule
from .server import (
    CONNECTION_REFUSED,
    Address,
    DnsAnswer,
    FileState,
    Firewall,
    Listener,
    Package,
    Reach,
    Request,
    Response,
    Server,
    Target,
    Unit,
)

ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


class Overlay:
    def __init__(self, below: Server) -> None:
        self.below = below
        self.performed: list[Action] = []
        self._files: dict[str, FileState | None] = {}
        self._units: dict[str, UnitIs] = {}
        self._read: dict[str, str] = {}
        self._drop_ins: dict[str, dict[str, bool]] = {}
        self._packages: dict[str, bool] = {}
        self._versions: dict[str, str] = {}
        self._listeners: dict[str, tuple[tuple[str, int], ...]] = {}
        self._rules: list[RuleIs] = []
        self._firewall = FirewallIs()
        self._vllm: dict[int, bool] = {}
        self._caddy: dict[str, FileState | None] = {}
        self._said: dict[tuple[str, ...], Output] = {}

    # ── looking ──

    def read(self, path: str) -> FileState | None:
        return self._files[path] if path in self._files else self.below.read(path)

    def names(self, directory: str) -> tuple[str, ...]:
        found = set(self.below.names(directory))
        for path, state in self._files.items():
            parent, _, name = path.rpartition("/")
            if parent == directory:
                (found.discard if state is None else found.add)(name)
        return tuple(sorted(found))

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        return self._said.get(tuple(argv)) or self.below.query(argv, timeout_s, stdin)

    def expect(self, queries: Sequence[Sequence[str]], units: Sequence[str] = ()) -> None:
        self.below.expect([argv for argv in queries if tuple(argv) not in self._said], units)

    def expect_fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> None:
        self.below.expect_fetch(url, timeout_s, ca_file)

    def units(self, *names: str) -> dict[str, Unit]:
        found = self.below.units(*names)
        return {name: self._changed_unit(unit) for name, unit in found.items()}

    def _changed_unit(self, unit: Unit) -> Unit:
        if unit.name in self._read:
            unit = replace(unit, properties={**unit.properties, "ExecStart": self._read[unit.name]})
        if unit.name in self._drop_ins:
            changed = self._drop_ins[unit.name]
            kept = [path for path in unit.properties.get("DropInPaths", "").split() if path not in changed]
            paths = " ".join((*kept, *(path for path, present in changed.items() if present)))
            unit = replace(unit, properties={**unit.properties, "DropInPaths": paths, "NeedDaemonReload": "no"})
        change = self._units.get(unit.name)
        if change is None:
            return unit
        if not change.exists:
            return Unit(unit.name, "not-found", "inactive", "dead", "")
        active, enabled = unit.active, unit.enabled
        if change.active is not None:
            active = "active" if change.active else "inactive"
        if change.enabled is not None:
            enabled = "enabled" if change.enabled else "disabled"
        return replace(
            unit,
            load="loaded",
            active=active,
            sub=unit.sub if active == unit.active else {"active": "running"}.get(active, "dead"),
            enabled=enabled,
        )

    def listeners(self) -> tuple[Listener, ...]:
        found = [one for one in self.below.listeners() if one.unit not in self._listeners]
        for unit, pairs in self._listeners.items():
            before = [one for one in self.below.listeners() if one.unit == unit]
            if {(one.address, one.port) for one in before} == set(pairs):
                found.extend(before)
            else:
                program = before[0].program if before else unit.removesuffix(".service")
                found.extend(Listener(address, port, program, 0, unit) for address, port in pairs)
        return tuple(sorted(found, key=lambda one: (one.port, one.address, one.pid)))

    def addresses(self) -> tuple[Address, ...]:
        return self.below.addresses()

    def host_names(self) -> tuple[str, ...]:
        return self.below.host_names()

    def packages(self, *names: str) -> dict[str, Package]:
        found = self.below.packages(*names)
        for name in names:
            if name in self._packages and self._packages[name] != found[name].installed:
                found[name] = Package(name, self._packages[name])
            elif name in self._packages:
                version = self._versions.get(name) or found[name].version
                found[name] = replace(found[name], half_configured=False, version=version)
        return found

    def half_configured(self) -> tuple[str, ...]:
        return tuple(name for name in self.below.half_configured() if name not in self._packages)

    def offered(self, repository: str, package: str) -> tuple[str, ...]:
        if self._packages.get(package):
            return (self.packages(package)[package].version,)
        return self.below.offered(repository, package)

    def firewall(self) -> Firewall:
        found = self.below.firewall()
        installed = self._packages.get("ufw", found.installed)
        active = found.enabled if self._firewall.active is None else self._firewall.active
        loaded = found.loaded if self._firewall.active is None else self._firewall.active
        defaults = replace(found.defaults, input=self._firewall.incoming or found.defaults.input)
        rules = list(found.rules)
        for change in self._rules:
            for family in _families(change, found.defaults.ipv6):
                rule = _rule(change, family)
                same = [known for known in rules if replace(known, comment="") == replace(rule, comment="")]
                if change.present and not same:
                    rules.append(rule)
                elif not change.present:
                    rules = [known for known in rules if known not in same]
        rules.sort(key=lambda rule: rule.family)
        # What the kernel would have loaded by then is not known here.
        changed = bool(self._rules) or self._firewall != FirewallIs()
        kernel4, kernel6 = (None, None) if changed else (found.kernel4, found.kernel6)
        told = replace(found, kernel4=kernel4, kernel6=kernel6, rules=tuple(rules), defaults=defaults)
        # Whatever changes a rule writes all of them.
        cut_off = () if self._rules or self._firewall.whole else found.cut_off
        return replace(told, installed=installed, enabled=active, loaded=loaded, cut_off=cut_off)

    def exchange(self, request: Request) -> Response:
        if request.tls and self._caddy:
            return Response(0, error="what Caddy would answer is not known before it runs that")
        return self.below.exchange(request)

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        return self.below.reach(targets)

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        return self.below.connections(ports)

    def vllm_ready(self, request: Request) -> Response:
        ready = self._vllm.get(request.port)
        if ready is None:
            return self.below.vllm_ready(request)
        if not ready:
            return Response(0, error=CONNECTION_REFUSED)
        if request.bearer is None:
            return Response(401, b'{"error":"Unauthorized"}')
        return Response(200, b'{"object":"list","data":[]}')

    def caddy_runs(self, path: str) -> bool | None:
        if path in self._caddy:
            return self._caddy[path] == self.read(path)
        if path in self._files:
            return False
        return self.below.caddy_runs(path)

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        return self.below.fetch(url, timeout_s, ca_file)

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        return self.below.resolve(name, kind, server)

    def now(self) -> float:
        return self.below.now()

    def sleep(self, seconds: float) -> None:
        """Nothing is waited for here."""

    def refresh(self) -> None:
        """What an overlay says changes by its effects alone; the server below is not asked again."""

    # ── what actions make true ──

    def perform(self, action: Action) -> Output:
        self.performed.append(action)
        if isinstance(action, Write):
            self.make_true(FileIs(action.path, action.content, action.mode, action.owner, action.group))
            if action.keep_attributes and (before := self.below.read(action.path)):
                self._files[action.path] = replace(before, content=action.content)
        elif isinstance(action, Remove):
            self.make_true(FileIs(action.path, None))
        else:
            for effect in action.makes:
                self.make_true(effect)
        return Output(0)

    def make_true(self, effect: Effect) -> None:
        match effect:
            case FileIs(path=path, content=None):
                self._files[path] = None
            case FileIs(path=path, content=content):
                self._files[path] = FileState("file", content or b"", effect.mode, effect.owner, effect.group)
            case FileCopied(source=source, path=path, mode=mode):
                copied = self.read(source)
                self._files[path] = replace(copied, mode=mode, owner="root", group="root") if copied else None
            case PackageIs(name=name, installed=installed, version=version):
                self._packages[name] = installed
                self._versions[name] = version
            case UnitIs(name=name):
                if name == "caddy.service" and effect.active is False:
                    # What it ran is gone with it.
                    self._caddy = dict.fromkeys(self._caddy)
                known = self._units.get(name, effect)
                self._units[name] = replace(
                    effect,
                    active=known.active if effect.active is None else effect.active,
                    enabled=known.enabled if effect.enabled is None else effect.enabled,
                )
            case UnitRead(name=name, exec_start=exec_start):
                self._read[name] = exec_start
            case DropInRead(name=name, path=path, present=present):
                self._drop_ins.setdefault(name, {})[path] = present
            case ListensOn(unit=unit, listeners=listeners):
                self._listeners[unit] = listeners
            case RuleIs():
                self._rules.append(effect)
            case FirewallIs(active=active, incoming=incoming, whole=whole):
                self._firewall = FirewallIs(
                    self._firewall.active if active is None else active,
                    self._firewall.incoming if incoming is None else incoming,
                    self._firewall.whole or whole,
                )
            case VllmAnswers(port=port, ready=ready):
                self._vllm[port] = ready
            case CaddyRuns(path=path):
                self._caddy[path] = self.read(path)
            case QuerySays(argv=argv, out=out, code=code):
                self._said[argv] = Output(code, out)

    def differences(self) -> dict[str, Any]:
        """Where this server differs from the one below, by kind and name: what two runs are compared by."""
        firewall, below = self.firewall(), self.below.firewall()
        found: dict[str, Any] = {}
        for path in self._files:
            if (now := self.read(path)) != self.below.read(path):
                found[f"file {path}"] = now
        for name in self._units:
            now_unit, was_unit = self.units(name)[name], self.below.units(name)[name]
            if (now_unit.exists, now_unit.active, now_unit.is_enabled) != (
                was_unit.exists,
                was_unit.active,
                was_unit.is_enabled,
            ):
                found[f"unit {name}"] = (now_unit.exists, now_unit.active, now_unit.is_enabled)
        for name in self._packages:
            now_package = self.packages(name)[name]
            if now_package != self.below.packages(name)[name]:
                found[f"package {name}"] = now_package.installed
        if self.listeners() != self.below.listeners():
            found["listeners"] = [str(one) for one in self.listeners()]
        if (firewall.enabled, firewall.defaults) != (below.enabled, below.defaults):
            found["firewall"] = (firewall.enabled, firewall.defaults)
        if firewall.rules != below.rules:
            found["rules"] = firewall.rules
        return found


def _families(change: RuleIs, ipv6: bool) -> tuple[int, ...]:
    if change.source:
        return (6,) if ":" in change.source else (4,)
    return (4, 6) if ipv6 else (4,)


def _rule(change: RuleIs, family: int) -> UfwRule:
    return UfwRule(
        action=change.action,
        protocol=change.protocol,
        port=change.port,
        source=change.source or ANYWHERE[family],
        source_port="any",
        destination=ANYWHERE[family],
        direction="in",
        comment=change.comment,
        family=family,
    )
