"""Bind: vLLM listens on 127.0.0.1 alone, by the smallest edit of its launch script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from ..endpoint import base_url
from ..engine import Look, Step
from ..hardening import chosen
from ..launching import loaded_host
from ..model import Action, Finding, Impact, Level, ListensOn, Run, Then, VllmAnswers, Wait, Write
from ..models import models
from ..other_sockets import judge
from ..parse.launch import is_loopback
from ..paths import UNITS
from ..queries import begin_together
from ..vllm import Readiness, Vllm, answers_in_shell, find_vllm

LOOPBACK = "127.0.0.1"
MOST_NAMED = 3
# Stands in a remedy for the path of the script.
SCRIPT = "SCRIPT"


def inspect(look: Look) -> Iterator[Finding]:
    """Each service that is served: one is waited for before the next is restarted."""
    for model in models(look):
        yield from model.findings(check_service(model.look))


def check_service(look: Look) -> Iterator[Finding]:
    begin_together(look.server, (look.answers.vllm.unit,))
    vllm = find_vllm(look)
    exposed = [one for one in vllm.own_listeners if not one.is_loopback]
    script = check_script(vllm, exposed=bool(exposed))
    yield script
    if script.level is Level.BLOCKED:
        return
    wait = wait_until_bound(look, vllm)
    confined = with_restart(look, vllm, wait) if exposed else None
    if confined is not None:
        yield confined
        # Also where it is only late: what is kept from loading may say nothing.
        back = confined.fix[0].otherwise
        wait = replace(wait, otherwise=back, goes_on=True, fall_back_when_late=True, late="")
    where = ", ".join(str(one) for one in exposed)
    if not exposed:
        where = ", ".join(str(one) for one in vllm.own_listeners) or "nowhere yet"
        yield Finding("bind.listener", Level.OK, f"vLLM listens on {where} alone")
    elif script.level is Level.DRIFT:
        # The restart that the edit asks for is what puts this right, too, and what confines it.
        yield Finding(
            "bind.listener",
            Level.DRIFT,
            f"vLLM listens on {where}: other machines can reach it",
            evidence={"listeners": [str(one) for one in exposed]},
            fix=(wait,),
        )
    else:
        yield Finding(
            "bind.listener",
            Level.DRIFT,
            f"vLLM still listens on {where}, though {in_words(vllm)} says {LOOPBACK}",
            evidence={"listeners": [str(one) for one in exposed]},
            fix=(wait,) if confined else (restart(vllm), wait),
        )
    if exposed:
        yield from check_clients(look, vllm)
    yield from check_others(look, vllm)


def with_restart(look: Look, vllm: Vllm, wait: Wait) -> Finding | None:
    """What of `harden.sandbox` is put in place before vLLM is restarted here, so that it is restarted once."""
    if "vllm" not in chosen(look.answers, "sandbox"):
        return None
    # Most servers are asked for none of it, and do not wait for it to be loaded.
    from ..harden import sandbox

    return sandbox.with_restart(look, restarted(vllm, LOOPBACK), wait)


def in_words(vllm: Vllm) -> str:
    return "its unit" if vllm.launching.in_unit else "its script"


def check_clients(look: Look, vllm: Vllm) -> Iterator[Finding]:
    """Who uses the port that is about to be closed, from other machines: they have to be told the new address."""
    own = {ip_address(one.address) for one in look.server.addresses()}
    found = {_client(one) for one in look.server.connections((vllm.port,))}
    clients = sorted((one for one in found - own if not one.is_loopback), key=lambda one: (one.version, one))
    if not clients:
        return
    one_alone, url = len(clients) == 1, base_url(look)
    named = ", ".join(str(one) for one in clients[:MOST_NAMED])
    named += f" and {len(clients) - MOST_NAMED} more" if len(clients) > MOST_NAMED else ""
    are, they = ("1 client is", "it") if one_alone else (f"{len(clients)} clients are", "they")
    yield Finding(
        "bind.clients",
        Level.INFO,
        f"{are} connected to port {vllm.port} now ({named}); {they} will need {url or 'the https address'} instead",
        evidence={"clients": [str(one) for one in clients], "base_url": url},
    )


def _client(far_end: str) -> IPv4Address | IPv6Address:
    """The address of a connection's far end; a v4 client on a v6 socket by its v4 address."""
    address = ip_address(far_end.rpartition(":")[0].partition("%")[0])
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def restarted(vllm: Vllm, host: str) -> Then:
    before = tuple((one.address, one.port) for one in vllm.listeners)
    loading = VllmAnswers(vllm.port, ready=False)
    then = Then(
        ("systemctl", "restart", vllm.unit.name),
        "vLLM takes the address up when it starts",
        Impact.RESTART_VLLM,
        makes=(ListensOn(vllm.unit.name, ((host, vllm.port),)), loading),
        timeout_s=300,
    )
    return replace(then, back=replace(then, makes=(ListensOn(vllm.unit.name, before), loading)))


def restart(vllm: Vllm) -> Run:
    then = restarted(vllm, LOOPBACK)
    return Run(then.argv, then.why, impact=then.impact, makes=then.makes, timeout_s=then.timeout_s)


def check_script(vllm: Vllm, *, exposed: bool) -> Finding:
    """The file that has vLLM's command: right, to be edited, or (blocked) not to be read for certain."""
    key, found = "bind.launch_script", vllm.launching
    if found.state is None or found.state.kind != "file":
        return not_found(vllm)
    edit = found.bind(LOOPBACK)
    if edit.content is None:
        said = f"{found.path}: {edit.refusal}"
        remedy = (edit.remedy or f"put --host {LOOPBACK} into the command that starts vLLM").replace(SCRIPT, found.path)
        if vllm.own_listeners and not exposed:
            where = ", ".join(str(one) for one in vllm.own_listeners)
            said = f"{said}. vLLM listens on {where} alone now; whether it will after its next start can't be known"
            return Finding(key, Level.WARN, said, f"to be sure of it, {remedy}")
        return Finding(key, Level.BLOCKED, said, remedy)
    if edit.content == found.state.content:
        return check_read(vllm, exposed=exposed)
    if found.foreign:
        return of_a_package(vllm)
    config = found.config.path if found.config and found.command and found.command.last_host is None else ""
    says = f"says --host {found.host}" if found.host else "names no --host, so vLLM takes every interface"
    if found.command and found.command.dynamic_host:
        says = "takes the host from a variable, which may be any address"
    elif config:
        says = f"leaves the host to {config} ({found.host or 'which has none'}): the command line wins over that file"
    return Finding(
        key,
        Level.DRIFT,
        f"{found.path} {says}",
        evidence={"host": found.host},
        fix=(edit_script(vllm, edit.content, exposed=exposed),),
    )


def not_found(vllm: Vllm) -> Finding:
    key, found = "bind.launch_script", vllm.launching
    if found.state is not None and found.state.kind == "link":
        said = (
            f"{found.path} is a link to {found.state.text} that {found.state.owner} made; links are not followed here"
        )
        name = f"name the file itself in the answers: vllm: {{launch_script: {found.state.text}}}"
        copy = f"put the file itself there: sudo cp --remove-destination {found.state.text} {found.path}"
        return Finding(key, Level.BLOCKED, said, copy if found.in_unit else name)
    said = f"{found.path or 'the launch script'} was not found"
    return Finding(key, Level.BLOCKED, said, "name it in the answers: vllm: {launch_script: /path/to/start-vllm.sh}")


def of_a_package(vllm: Vllm) -> Finding:
    path, name = vllm.launching.path, vllm.unit.name
    copy = f"make it yours, then check again: sudo cp {path} {UNITS}/{name} && sudo systemctl daemon-reload"
    if not path.startswith(("/usr/lib/", "/lib/")):
        copy = f"put --host {LOOPBACK} into the command where {path} is made from; then sudo systemctl daemon-reload"
    said = f"{path} starts vLLM without --host {LOOPBACK}, and is not yours to edit: its next update would undo that"
    return Finding("bind.launch_script", Level.BLOCKED, said, copy)


def check_read(vllm: Vllm, *, exposed: bool) -> Finding:
    """The file is right. Does systemd go by it, too? A run that was killed before the reload leaves it with the old."""
    key, found = "bind.launch_script", vllm.launching
    loaded = loaded_host(vllm.unit)
    written_out = found.command is not None and found.command.last_host is not None and found.command.last_host.span
    if not found.in_unit or not written_out or (loaded is not None and is_loopback(loaded)):
        return Finding(key, Level.OK, f"{found.path} binds vLLM to loopback")
    assert found.state is not None
    told = read_again(vllm, found.state.content)
    return Finding(
        key,
        Level.DRIFT,
        f"{found.path} binds vLLM to loopback, and systemd has not read that yet",
        fix=(Run(told.argv, told.why, makes=told.makes, then=(restarted(vllm, LOOPBACK),) if exposed else ()),),
    )


def read_again(vllm: Vllm, content: bytes) -> Then:
    """systemd goes by what it has read, also when it restarts a service."""
    found, name = vllm.launching, vllm.unit.name
    assert found.state is not None
    then = Then(
        ("systemctl", "daemon-reload"),
        "systemd reads the unit again",
        Impact.NONE,
        makes=(found.read_by_systemd(name, content),),
    )
    return replace(then, back=replace(then, makes=(found.read_by_systemd(name, found.state.content),)))


def edit_script(vllm: Vllm, content: bytes, *, exposed: bool) -> Write:
    """The edit; with a restart only where vLLM listens wrongly now. Put back where vLLM fails with it."""
    found = vllm.launching
    assert found.state is not None
    reread = (read_again(vllm, content),) if found.in_unit else ()
    return Write(
        found.path,
        content,
        f"vLLM is to listen on {LOOPBACK} alone",
        mode=found.state.mode,
        owner=found.state.owner,
        group=found.state.group,
        then=(*reread, *((restarted(vllm, LOOPBACK),) if exposed else ())),
        otherwise=put_back(vllm) if exposed else (),
        keep_attributes=True,
    )


def put_back(vllm: Vllm) -> tuple[Action, ...]:
    found = vllm.launching
    assert found.state is not None
    reread = (read_again(vllm, found.state.content),) if found.in_unit else ()
    return (
        Write(
            found.path,
            found.state.content,
            f"vLLM fails with the edited {in_words(vllm).removeprefix('its ')}: the old one is put back",
            then=(*reread, restarted(vllm, found.host or "0.0.0.0")),
            keep_attributes=True,
        ),
    )


def wait_until_bound(look: Look, vllm: Vllm) -> Wait:
    return Wait(
        f"vLLM answers on {LOOPBACK}:{vllm.port}",
        "the model is loaded again",
        look.answers.vllm.ready_timeout,
        Readiness(look, bound_to=LOOPBACK),
        makes=(VllmAnswers(vllm.port),),
        otherwise=put_back(vllm),
        fall_back_when_late=False,
        late=f"It stays bound to {LOOPBACK} and goes on loading; its log: journalctl -u {vllm.unit.name} -f",
        shell=answers_in_shell(vllm, bound_to=LOOPBACK),
    )


def check_others(look: Look, vllm: Vllm) -> Iterator[Finding]:
    """Other sockets of its control group (torch's store, ZMQ): the firewall is what closes those."""
    others = [one for one in vllm.exposed if one.port != vllm.port]
    firewall = look.server.firewall() if others else None
    for one in others:
        assert firewall is not None
        judged = judge(one, firewall)
        see = f"sudo ss -ltnp 'sport = :{one.port}'"
        remedy = f"nothing to do while the firewall is on; see: {see}"
        if not judged.closed and not look.answers.firewall.manage:
            remedy = f"let no other machine to port {one.port} in the firewall that you manage; see: {see}"
        elif not judged.closed:
            remedy = f"take out the rule that opens port {one.port}: sudo ufw status numbered; see: {see}"
        end = "the firewall closes it" if judged.closed else f"no firewall closes it, and {judged.risk}"
        yield Finding(
            "bind.other_listener",
            Level.WARN,
            f"{one.program or 'a process'} of {vllm.unit.name} also listens on {one}, {judged.what}; {end}",
            remedy=remedy,
            evidence={"listener": str(one), "what": judged.what, "closed": judged.closed},
        )


STEP = Step(
    "bind",
    "Bind",
    inspect,
    about="vLLM listens to this server alone: nobody gets around Caddy.",
    help=(
        "vLLM itself speaks plain http: whoever reaches its port can read keys and prompts, and parts of it need no "
        "key at all (/metrics, /tokenize, /invocations). Bound to 127.0.0.1 it answers programs on this server only, "
        "and Caddy is the one that passes requests on.\n\n"
        "One line of the launch script, or of the unit where that has the command, is changed, and vLLM restarts: "
        "until the model is loaded again there is no API. "
        "If vLLM fails with the new line, the old one is put back."
    ),
)
