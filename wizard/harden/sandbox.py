"""Services that systemd confines to what they need: a drop-in of ours for Caddy's unit, and for each of vLLM's.

A service that does not come up so is put back: the drop-in goes, and the service is restarted without it. Where vLLM
is about to be restarted for another reason, the drop-in is put in place before (`with_restart`): a model takes minutes.
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
from ..model import Action, Finding, Impact, Level, Run, Then, VllmAnswers, Wait
from ..models import as_only, models
from ..parse.exposure import parse_exposure
from ..parse.unit_files import parse_unit_file
from ..paths import CADDY_SERVICE, CADDYFILE, UNITS
from ..render import render
from ..server import Unit
from ..vllm import Readiness, Vllm, answers_in_shell, find_vllm
from .confinement import exposure_query, is_older, is_outside, with_effect
from .vllm_places import HOMES, elevated, find_places, unit_files

KEY, LEFT, AHEAD = "harden.sandbox", "harden.sandbox_left", "bind.sandbox"
STEP = "harden"
FILE = "vllm-https.conf"
VENDOR = ("/usr/lib/", "/lib/")
# Adds to what others set, whatever that is.
ADDING = ("ExecStartPre", "InaccessiblePaths")


@dataclass(frozen=True)
class Service:
    """One of them: its unit, how it is restarted, and what is waited for then."""

    drop_in: DropIn
    restart: Then
    wait: tuple[Wait, ...] = ()

    @property
    def unit(self) -> str:
        return self.drop_in.unit

    def restarted(self, told: Then) -> tuple[Action, ...]:
        return (Run(told.argv, told.why, told.impact, told.timeout_s, makes=told.makes), *self.wait)


def check(look: Look) -> Iterator[Finding]:
    """Whether each service is confined as it is to be, or no more."""
    wanted = chosen(look.answers, "sandbox")
    served = models(look)
    if wanted:
        units = [*([CADDY_SERVICE] if "caddy" in wanted else []), *(one.unit for one in served if "vllm" in wanted)]
        look.server.expect([exposure_query(unit) for unit in units])
    caddy = drop_in_of(CADDY_SERVICE)
    if "caddy" in wanted:
        yield from _check_caddy(look, caddy)
    elif caddy.is_known(look):
        yield from _clear_away(look, _caddy(look, caddy))
    for model in served:
        drop_in = drop_in_of(model.unit)
        if "vllm" in wanted:
            yield from model.findings([_check_vllm(model.look, drop_in)])
        elif drop_in.is_known(look):
            yield from model.findings(_clear_away(model.look, _vllm(model.look, drop_in)))
    for drop_in in _no_longer_served(look, {CADDY_SERVICE, *(one.unit for one in served)}):
        alone = as_only(look, drop_in.unit)
        service = _vllm(alone, drop_in)
        # Nobody asks whether what it has become answers as vLLM would: waited for is what does now.
        yield from _clear_away(alone, service if find_vllm(alone).own_listeners else replace(service, wait=()))


def drop_in_of(unit: str) -> DropIn:
    return DropIn(unit, FILE, STEP)


def _no_longer_served(look: Look, units: set[str]) -> Iterator[DropIn]:
    """Those that an earlier run has confined, and that no answer names any more."""
    end = f".d/{FILE}"
    for path in look.owned.files:
        unit = path.removeprefix(f"{UNITS}/").removesuffix(end)
        if path == f"{UNITS}/{unit}{end}" and unit not in units:
            yield drop_in_of(unit)


def with_restart(look: Look, restart: Then, wait: Wait) -> Finding | None:
    """What vLLM lacks to be confined, where it is about to be restarted and waited for anyway; None where that is
    nothing. Where it does not come up so, it is restarted without it, and that is waited for."""
    drop_in = drop_in_of(look.answers.vllm.unit)
    vllm = find_vllm(look)
    content = _vllm_content(look, vllm, drop_in)
    if isinstance(content, Finding):
        return None  # the step that it is of tells why
    lacking = _lacking(look, drop_in, content)
    if not lacking:
        return None
    then = (with_effect(restart, vllm.unit),)
    back = (*_put_back(drop_in, restart), wait)
    fix: tuple[Action, ...] = (drop_in.read_now(then=then),)
    if not drop_in.is_written(look, content):
        fix = drop_in.place(content, f"{drop_in.unit} can do what it must, and no more, from the same restart on", then)
    fix = tuple(replace(one, otherwise=back, goes_on=True) for one in fix)
    return Finding(AHEAD, Level.DRIFT, lacking, evidence={"unit": drop_in.unit}, fix=fix)


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
    yield _check_service(look, _caddy(look, drop_in), content)


def _check_vllm(look: Look, drop_in: DropIn) -> Finding:
    content = _vllm_content(look, find_vllm(look), drop_in)
    return content if isinstance(content, Finding) else _check_service(look, _vllm(look, drop_in), content)


def _vllm_content(look: Look, vllm: Vllm, drop_in: DropIn) -> str | Finding:
    """What its drop-in has to say; or why it can't be confined."""
    if vllm.command is None:
        said = f"{vllm.unit.name} is not confined: what starts vLLM can't be read for certain"
        return Finding(KEY, Level.WARN, said, "leave vllm out: harden: {sandbox: [caddy]}")
    if program := elevated(look, vllm, drop_in.path):
        said = f"{vllm.unit.name} is not confined: its start uses {program}, which could not work so"
        remedy = f"let its unit start it without {program} (User=), or leave vllm out: harden: {{sandbox: [caddy]}}"
        return Finding(KEY, Level.WARN, said, remedy)
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
    return without(text, set_by_others)


def _caddy(look: Look, drop_in: DropIn) -> Service:
    why = "Caddy starts anew; open connections are cut"
    return Service(drop_in, Then(RESTART, why, Impact.RESTART_CADDY, makes=running(look)))


def _vllm(look: Look, drop_in: DropIn) -> Service:
    vllm = find_vllm(look)
    loading = VllmAnswers(vllm.port, ready=False)
    argv, why = ("systemctl", "restart", drop_in.unit), "what confines vLLM counts from its start"
    restart = Then(argv, why, Impact.RESTART_VLLM, makes=(loading,), timeout_s=300)
    active = vllm.unit.is_active
    return Service(drop_in, restart, (_wait(look, vllm, drop_in, restart),) if active else ())


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
    exposure = parse_exposure(look.server.query(exposure_query(service.unit)).out)
    evidence: dict[str, Any] = {"unit": service.unit, "exposure": exposure}
    restart = with_effect(service.restart, unit)
    fix: tuple[Action, ...]
    lacking = _lacking(look, drop_in, content)
    if not lacking:
        now = "" if exposure is None else f": systemd-analyze security says {exposure} of 10 now"
        return Finding(KEY, Level.OK, f"{service.unit} is confined to what it needs{now}", evidence=evidence)
    if not drop_in.is_written(look, content):
        before = ""
        if exposure is not None and look.server.read(drop_in.path) is None:
            before = f" (systemd-analyze security: {exposure} before)"
            lacking += before
        back = _put_back(drop_in, service.restart)
        why = f"{service.unit} can do what it must, and no more{before}"
        then = (restart,) if unit.is_active else ()
        fix = (*drop_in.place(content, why, then=then, otherwise=back), *service.wait)
    elif not drop_in.is_up_to_date(look):
        fix = (drop_in.read_now(),)
    else:
        fix = service.restarted(restart)
    return Finding(KEY, Level.DRIFT, lacking, evidence=evidence, fix=fix)


def _lacking(look: Look, drop_in: DropIn, content: str) -> str:
    """What a service lacks to be confined, in words; "" where that is nothing."""
    unit = look.server.units(drop_in.unit)[drop_in.unit]
    if not drop_in.is_written(look, content):
        there = look.server.read(drop_in.path) is not None
        return f"{drop_in.path} is not as it should be" if there else f"{drop_in.unit} is not confined"
    if not drop_in.is_up_to_date(look):
        return f"systemd has not read {drop_in.path} yet"
    if is_outside(look, unit):
        return f"{drop_in.unit} runs as it was started before it was confined"
    if is_older(look, unit, drop_in.path):
        return f"{drop_in.unit} runs as it was started before {drop_in.path} was changed"
    return ""


def _clear_away(look: Look, service: Service) -> Iterator[Finding]:
    """Turned off: the drop-in goes, and the service is restarted without it."""
    drop_in = service.drop_in
    unit = look.server.units(service.unit)[service.unit]
    service = replace(service, wait=tuple(replace(one, otherwise=()) for one in service.wait))
    free = with_effect(service.restart, unit, confined=False)
    then = (free,) if unit.is_active else ()
    if look.server.read(drop_in.path) is not None:
        fix = drop_in.take_away(f"{service.unit} is to be confined no more", then=then)
        yield Finding(LEFT, Level.DRIFT, f"{drop_in.path} is left", fix=(*fix, *service.wait))
    elif drop_in.is_read(look):
        again = drop_in.read_now(present=False, then=then)
        yield Finding(LEFT, Level.DRIFT, f"systemd goes by {drop_in.path}, which is gone", fix=(again, *service.wait))
    elif unit.is_active and not is_outside(look, unit):
        yield Finding(LEFT, Level.DRIFT, f"{service.unit} still runs confined", fix=service.restarted(free))


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
