"""Facts: typed answers about a server, read through any `Machine` and parsed by the same parsers, once per look."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast
from urllib.parse import quote

from .model import Action, Output, SetupError
from .parse.apt import parse_packages
from .parse.caddy_admin import admin_socket
from .parse.netfilter import Ruleset, is_ufw_loaded, parse_ruleset
from .parse.ufw import UfwDefaults, is_cut_off, parse_defaults, parse_enabled, parse_log_level, parse_user_rules
from .parse.units import parse_show
from .queries import ADAPT, ALL_PACKAGES, show_units
from .server import (
    Address,
    DnsAnswer,
    FileState,
    Firewall,
    Listener,
    Machine,
    Package,
    Reach,
    Request,
    Response,
    Target,
    Unit,
)

CADDY_ADMIN = Request("127.0.0.1", 2019, path="/config/", host="localhost:2019", timeout_s=2)
UFW_RULES = {"/etc/ufw/user.rules": 4, "/etc/ufw/user6.rules": 6}
APT_LISTS = "/var/lib/apt/lists"
T = TypeVar("T")


def parse_versions(packages: str, package: str) -> tuple[str, ...]:
    """The package's versions in the text of a repository's Packages file (deb822, Debian Policy 5)."""
    stanzas = (dict(re.findall(r"^(Package|Version): *(.*)$", one, re.M)) for one in packages.split("\n\n"))
    return tuple(stanza.get("Version", "") for stanza in stanzas if stanza.get("Package") == package)


class Facts:
    """The looking half of a `Server`. Answers are kept until `refresh`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._kept: dict[Any, Any] = {}
        self._units: dict[str, Unit] = {}

    def refresh(self) -> None:
        self._kept.clear()
        self._units.clear()

    def _once(self, key: Any, ask: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = ask()
        return cast(T, self._kept[key])

    def read(self, path: str) -> FileState | None:
        return self._once(("read", path), lambda: self.machine.read(path))

    def names(self, directory: str) -> tuple[str, ...]:
        return self._once(("names", directory), lambda: self.machine.names(directory))

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        return self._once(
            ("query", tuple(argv), stdin),
            lambda: self.machine.command(tuple(argv), timeout_s=timeout_s, stdin=stdin),
        )

    def expect(self, queries: Sequence[Sequence[str]], units: Sequence[str] = ()) -> None:
        """These will be asked, and these units: a server may begin with all of them at the same time."""

    def expect_fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> None:
        """This will be fetched: a server may begin with it."""

    def units(self, *names: str) -> dict[str, Unit]:
        """The units by these names; an unknown one has `exists` false. One `systemctl show` for those not yet asked."""
        missing = [name for name in names if name not in self._units]
        if missing:
            output = self.query(show_units(*missing))
            shown = parse_show(output.out)
            for name in missing:
                # An alias answers by its own name: ssh.service is what sshd.service shows.
                properties = shown.get(name, {})
                self._units[name] = Unit(
                    name,
                    properties.get("LoadState", "not-found"),
                    properties.get("ActiveState", "inactive"),
                    properties.get("SubState", ""),
                    properties.get("UnitFileState", ""),
                    properties,
                )
        return {name: self._units[name] for name in names}

    def listeners(self) -> tuple[Listener, ...]:
        return self._once("listeners", self.machine.listeners)

    def addresses(self) -> tuple[Address, ...]:
        return self._once("addresses", self.machine.addresses)

    def host_names(self) -> tuple[str, ...]:
        return self._once("host_names", self.machine.host_names)

    def all_packages(self) -> dict[str, Package]:
        """Every package that dpkg knows, by name. Status `ii` is installed; `iF`, `iU`, `iH` are half-way."""
        return self._once("packages", self._all_packages)

    def _all_packages(self) -> dict[str, Package]:
        output = self.query(ALL_PACKAGES)
        found = {}
        for package in parse_packages(output.out):
            status = package.status.strip()
            found[package.name] = Package(
                package.name,
                status[1:2] in ("i", "t", "W"),
                package.version,
                status[1:2] in ("F", "U", "H") or status[2:3] == "R",
                held=package.held,
            )
        return found

    def packages(self, *names: str) -> dict[str, Package]:
        known = self.all_packages()
        return {name: known.get(name, Package(name, installed=False)) for name in names}

    def half_configured(self) -> tuple[str, ...]:
        return tuple(name for name, package in self.all_packages().items() if package.half_configured)

    def offered(self, repository: str, package: str) -> tuple[str, ...]:
        """The versions of a package in the repository's list as apt last fetched it; () where it has none."""
        prefix = quote(repository.split("://", 1)[-1].strip("/"), safe="/.-").replace("/", "_")
        for name in self.names(APT_LISTS):
            if name.startswith(prefix) and name.endswith("_Packages"):
                return parse_versions(self._text(f"{APT_LISTS}/{name}"), package)
        return ()

    def firewall(self) -> Firewall:
        return self._once("firewall", self._firewall)

    def _firewall(self) -> Firewall:
        installed = self.read("/usr/sbin/ufw") is not None
        if not installed:
            return Firewall(False, False, None, (), UfwDefaults(True, "deny", "allow", "deny"))
        kernel4, kernel6 = self._ruleset("iptables-save"), self._ruleset("ip6tables-save")
        loaded = None if kernel4 is None else is_ufw_loaded(kernel4)
        configuration = self._text("/etc/ufw/ufw.conf")
        return Firewall(
            installed=True,
            enabled=parse_enabled(configuration),
            loaded=loaded,
            rules=tuple(
                rule for path, family in UFW_RULES.items() for rule in parse_user_rules(self._text(path), family)
            ),
            defaults=parse_defaults(self._text("/etc/default/ufw")),
            kernel4=kernel4,
            kernel6=kernel6,
            cut_off=self.cut_off(),
            log_level=parse_log_level(configuration),
        )

    def cut_off(self) -> tuple[str, ...]:
        """ufw's files of rules whose end is missing."""
        return tuple(path for path in UFW_RULES if self.read(path) is not None and is_cut_off(self._text(path)))

    def _text(self, path: str) -> str:
        found = self.read(path)
        return found.text if found else ""

    def _ruleset(self, program: str) -> Ruleset | None:
        output = self.query((program, "-t", "filter"))
        return parse_ruleset(output.out) if output.ok else None

    def exchange(self, request: Request) -> Response:
        return self.machine.exchange(request)

    def vllm_ready(self, request: Request) -> Response:
        return self.machine.exchange(request)

    def caddy_runs(self, path: str) -> bool | None:
        """True if the running Caddy has what the file says now; None where either could not be asked."""
        return self._once(("caddy_runs", path), lambda: self._caddy_runs(path))

    def _caddy_runs(self, path: str) -> bool | None:
        running = self.machine.exchange(replace(CADDY_ADMIN, unix=admin_socket(self._text(path))))
        if running.status != 200:
            return None
        adapted = self.query((*ADAPT, path))
        if not adapted.ok:
            return None
        try:
            return bool(json.loads(running.body) == json.loads(adapted.out))
        except ValueError:
            return None

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        return self._once(("fetch", url), lambda: self.machine.fetch(url, timeout_s, ca_file))

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        return self._once(("resolve", name, kind, server), lambda: self.machine.resolve(name, kind, server))

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        return self.machine.reach(targets)

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        return self.machine.connections(ports)

    def now(self) -> float:
        return self.machine.now()

    def sleep(self, seconds: float) -> None:
        self.machine.sleep(seconds)

    def perform(self, action: Action) -> Output:
        raise SetupError("this server can only be looked at")
