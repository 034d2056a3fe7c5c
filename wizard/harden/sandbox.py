"""Services that systemd confines to what they need: a drop-in of ours for Caddy's unit, and for vLLM's.

A service that does not come up so is put back: the drop-in goes, and the service is restarted without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..apt import CADDY
from ..caddy_build import find_build
from ..caddy_service import RESTART, running
from ..caddyfile import ADDITIONS, HEADING, is_imported
from ..drop_in import DropIn
from ..engine import Look
from ..hardening import chosen
from ..model import Action, FileIs, Finding, Impact, Level, Run, Then, VllmAnswers, Wait
from ..parse.exposure import parse_exposure
from ..parse.unit_files import parse_unit_file
from ..paths import CADDYFILE, STATE
from ..render import render
from ..server import Unit
from ..vllm import Readiness, Vllm, answers_in_shell, find_vllm
from .vllm_places import HOMES, elevated, find_places, unit_files

KEY, LEFT = "harden.sandbox", "harden.sandbox_left"
FILE = "vllm-https.conf"
VENDOR = ("/usr/lib/", "/lib/")
# Adds to what others set, whatever that is.
ADDING = ("ExecStartPre", "InaccessiblePaths")


@dataclass(frozen=True)
class Service:
    """One of the two: its unit, how it is restarted, and what is waited for then."""

    name: str
    drop_in: DropIn
    restart: Then
    wait: tuple[Wait, ...] = ()

    @property
    def unit(self) -> str:
        return self.drop_in.unit

    def restarted(self) -> tuple[Action, ...]:
        told = self.restart
        return (Run(told.argv, told.why, told.impact, told.timeout_s, makes=told.makes), *self.wait)


def check(look: Look) -> Iterator[Finding]:
    """Whether each service is confined as it is to be, or no more."""
    wanted = chosen(look.answers, "sandbox")
    units = {"caddy": "caddy.service", "vllm": look.answers.vllm.unit}
    if wanted:
        look.server.expect([_exposure_query(units[name]) for name in wanted])
    for name, unit in units.items():
        drop_in = DropIn(unit, FILE)
        if name in wanted:
            yield from (_check_caddy if name == "caddy" else _check_vllm)(look, drop_in)
        elif drop_in.is_known(look):
            yield from _clear_away(look, _service(look, name, drop_in))


def _check_caddy(look: Look, drop_in: DropIn) -> Iterator[Finding]:
    unit = look.server.units(drop_in.unit)[drop_in.unit]
    build = find_build(look, look.server.packages(CADDY)[CADDY])
    state = look.server.read(CADDYFILE)
    additions = any(name.endswith(".caddy") for name in look.server.names(ADDITIONS))
    ours = state is not None and HEADING in state.text and not is_imported(look)
    alone = ours and not additions
    ca_file = look.answers.tls.acme_ca_file or ""
    text = render(
        "caddy_sandbox.conf.j2",
        http3=look.answers.proxy.http3 or not ours,
        alone=alone,
        home=not alone or ca_file.startswith(HOMES),
        packaged=not build.is_own,
    )
    content = without(text, _set_by_others(look, unit, drop_in, vendor=VENDOR))
    yield _check_service(look, _service(look, "caddy", drop_in), content)


def _check_vllm(look: Look, drop_in: DropIn) -> Iterator[Finding]:
    vllm = find_vllm(look)
    if vllm.command is None:
        said = f"{vllm.unit.name} is not confined: what starts vLLM can't be read for certain"
        yield Finding(KEY, Level.WARN, said, "leave vllm out: harden: {sandbox: [caddy]}")
        return
    if program := elevated(look, vllm, drop_in.path):
        said = f"{vllm.unit.name} is not confined: its start uses {program}, which could not work so"
        remedy = f"let its unit start it without {program} (User=), or leave vllm out: harden: {{sandbox: [caddy]}}"
        yield Finding(KEY, Level.WARN, said, remedy)
        return
    places = find_places(look, vllm, drop_in.path)
    programs = look.server.names("/usr/bin")
    commands = (("nvidia-smi", "-L"), ("nvidia-modprobe", "-c 0 -u"))
    text = render(
        "vllm_sandbox.conf.j2",
        root=vllm.user in ("root", "0"),
        # nvidia-smi as root makes the device of each GPU; the other one that of unified memory.
        device_files=[f"/usr/bin/{name} {words}" for name, words in commands if name in programs],
        home=places.in_homes,
        writable=[path.replace("%", "%%") for path in places.written if '"' not in path],
    )
    set_by_others = _set_by_others(look, vllm.unit, drop_in)
    if "AmbientCapabilities" in set_by_others:
        set_by_others |= {"CapabilityBoundingSet"}
    yield _check_service(look, _service(look, "vllm", drop_in), without(text, set_by_others))


def _service(look: Look, name: str, drop_in: DropIn) -> Service:
    if name == "caddy":
        why = "Caddy starts anew; open connections are cut"
        return Service(name, drop_in, Then(RESTART, why, Impact.RESTART_CADDY, makes=running(look)))
    vllm = find_vllm(look)
    loading = VllmAnswers(vllm.port, ready=False)
    argv, why = ("systemctl", "restart", drop_in.unit), "what confines vLLM counts from its start"
    restart = Then(argv, why, Impact.RESTART_VLLM, makes=(loading,), timeout_s=300)
    active = vllm.unit.is_active
    return Service(name, drop_in, restart, (_wait(look, vllm, drop_in, restart),) if active else ())


def _wait(look: Look, vllm: Vllm, drop_in: DropIn, restart: Then) -> Wait:
    return Wait(
        "vLLM answers again",
        "the model is loaded again",
        look.answers.vllm.ready_timeout,
        Readiness(look),
        makes=(VllmAnswers(vllm.port),),
        otherwise=_put_back(drop_in, restart),
        shell=answers_in_shell(vllm),
    )


def _put_back(drop_in: DropIn, restart: Then) -> tuple[Action, ...]:
    why = (
        f"{drop_in.unit} does not come up so confined: the drop-in is taken away, and it is restarted without it. "
        "To leave it as it is: harden: {sandbox: [the other one]}"
    )
    return drop_in.take_away(why, then=(restart,))


def _check_service(look: Look, service: Service, content: str) -> Finding:
    drop_in = service.drop_in
    unit = look.server.units(service.unit)[service.unit]
    state = look.server.read(drop_in.path)
    exposure = parse_exposure(look.server.query(_exposure_query(service.unit)).out)
    evidence: dict[str, Any] = {"unit": service.unit, "exposure": exposure}
    marked = _namespace(unit)
    if not drop_in.is_written(look, content):
        before = "" if exposure is None else f" (systemd-analyze security: {exposure} before)"
        said = f"{service.unit} is not confined{before}" if state is None else f"{drop_in.path} is not as it should be"
        restart = _with_effect(service.restart, marked, unit)
        back = _put_back(drop_in, service.restart)
        why = f"{service.unit} can do what it must, and no more{before if state is None else ''}"
        then = (restart,) if unit.is_active else ()
        fix = drop_in.place(content, why, then=then, otherwise=back)
        return Finding(KEY, Level.DRIFT, said, evidence=evidence, fix=(*fix, *service.wait))
    if not drop_in.is_up_to_date(look):
        said = f"systemd has not read {drop_in.path} yet"
        return Finding(KEY, Level.DRIFT, said, evidence=evidence, fix=(drop_in.read_now(),))
    if _is_outside(look, unit):
        said = f"{service.unit} runs as it was started before it was confined"
        restart = _with_effect(service.restart, marked, unit)
        fix = Service(service.name, drop_in, restart, service.wait).restarted()
        return Finding(KEY, Level.DRIFT, said, evidence=evidence, fix=fix)
    now = "" if exposure is None else f": systemd-analyze security says {exposure} of 10 now"
    return Finding(KEY, Level.OK, f"{service.unit} is confined to what it needs{now}", evidence=evidence)


def _clear_away(look: Look, service: Service) -> Iterator[Finding]:
    """Turned off: the drop-in goes, and the service is restarted without it."""
    drop_in = service.drop_in
    unit = look.server.units(service.unit)[service.unit]
    wait = tuple(replace(one, otherwise=()) for one in service.wait)
    free = _with_effect(service.restart, _namespace(unit), unit, confined=False)
    then = (free,) if unit.is_active else ()
    if look.server.read(drop_in.path) is not None:
        fix = drop_in.take_away(f"{service.unit} is to be confined no more", then=then)
        yield Finding(LEFT, Level.DRIFT, f"{drop_in.path} is left", fix=(*fix, *wait))
    elif drop_in.is_read(look):
        again = drop_in.read_now(present=False, then=then)
        yield Finding(LEFT, Level.DRIFT, f"systemd goes by {drop_in.path}, which is gone", fix=(again, *wait))
    elif unit.is_active and not _is_outside(look, unit):
        fix = Service(service.name, drop_in, free, wait).restarted()
        yield Finding(LEFT, Level.DRIFT, f"{service.unit} still runs confined", fix=fix)


def _exposure_query(unit: str) -> tuple[str, ...]:
    return ("systemd-analyze", "security", "--no-pager", unit)


# ── what a process was started with ──


def _namespace(unit: Unit) -> str:
    """The mounts that the service's process sees: a drop-in of ours hides our records from it."""
    pid = unit.properties.get("MainPID", "0")
    return f"/proc/{pid}/mountinfo" if unit.is_active and pid not in ("", "0") else ""


def _is_outside(look: Look, unit: Unit) -> bool:
    """True if the process was started without the drop-in; False also where that can't be known."""
    path = _namespace(unit)
    state = look.server.read(path) if path else None
    return state is not None and f" {STATE} " not in state.text


def _with_effect(restart: Then, namespace: str, unit: Unit, *, confined: bool = True) -> Then:
    if not namespace:
        return restart
    text = f"0 0 0:0 / {STATE} ro" if confined else "0 0 0:0 / / rw"
    makes = (*restart.makes, FileIs(namespace, text.encode(), 0o444))
    return Then(restart.argv, restart.why, restart.impact, makes, restart.timeout_s)


# ── what is set already ──


def _set_by_others(look: Look, unit: Unit, own: DropIn, vendor: tuple[str, ...] = ()) -> frozenset[str]:
    """The keys that the operator's own files of the unit set."""
    found: set[str] = set()
    for path in unit_files(unit):
        state = look.server.read(path) if path != own.path and not path.startswith(vendor or ("\0",)) else None
        if state is not None and state.kind == "file":
            found |= {key for section, key, _ in parse_unit_file(state.text) if section == "Service"}
    return frozenset(found)


def without(text: str, keys: frozenset[str]) -> str:
    """A drop-in without those blocks of it (lines between empty ones) that set one of these keys."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    kept = [block for block in blocks if not _keys_of(block) & keys]
    return "\n\n".join(block.strip("\n") for block in kept) + "\n"


def _keys_of(block: str) -> set[str]:
    settings = [line for line in block.splitlines() if "=" in line and not line.startswith("#")]
    return {line.partition("=")[0] for line in settings} - set(ADDING)
