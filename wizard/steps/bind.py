"""Bind: vLLM listens on 127.0.0.1 alone, by the smallest edit of its launch script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..engine import Look, Step
from ..model import Action, Finding, Impact, Level, ListensOn, Run, Then, VllmAnswers, Wait, Write
from ..parse.launch import bind_to
from ..vllm import Readiness, Vllm, answers_in_shell, find_vllm

LOOPBACK = "127.0.0.1"


def inspect(look: Look) -> Iterator[Finding]:
    vllm = find_vllm(look)
    exposed = [one for one in vllm.own_listeners if not one.is_loopback]
    script = check_script(look, vllm, exposed=bool(exposed))
    yield script
    if script.level is Level.BLOCKED:
        return
    if not exposed:
        where = ", ".join(str(one) for one in vllm.own_listeners) or "nowhere yet"
        yield Finding("bind.listener", Level.OK, f"vLLM listens on {where} alone")
    elif script.level is Level.DRIFT:
        # The restart that the edit asks for is what puts this right, too.
        yield Finding(
            "bind.listener",
            Level.DRIFT,
            f"vLLM listens on {', '.join(str(one) for one in exposed)}: other machines can reach it",
            evidence={"listeners": [str(one) for one in exposed]},
            fix=(wait_until_bound(look, vllm),),
        )
    else:
        yield Finding(
            "bind.listener",
            Level.DRIFT,
            f"vLLM still listens on {', '.join(str(one) for one in exposed)}, though its script says {LOOPBACK}",
            evidence={"listeners": [str(one) for one in exposed]},
            fix=(restart(vllm), wait_until_bound(look, vllm)),
        )
    yield from check_others(vllm)


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


def check_script(look: Look, vllm: Vllm, *, exposed: bool) -> Finding:
    key = "bind.launch_script"
    if vllm.script is None or vllm.script.kind != "file":
        remedy = "name it in the answers: vllm: {launch_script: /path/to/start-vllm.sh}"
        return Finding(key, Level.BLOCKED, "the launch script was not found", remedy)
    edit = bind_to(vllm.script.content, LOOPBACK)
    if edit.content is None:
        return Finding(
            key,
            Level.BLOCKED,
            f"{vllm.script_path}: {edit.refusal}",
            remedy=edit.remedy or f"put --host {LOOPBACK} into the command that starts vLLM by hand",
        )
    if edit.content == vllm.script.content:
        return Finding(key, Level.OK, f"{vllm.script_path} binds vLLM to loopback")
    host = vllm.command.host if vllm.command else None
    says = f"says --host {host}" if host else "names no --host, so vLLM takes every interface"
    return Finding(
        key,
        Level.DRIFT,
        f"{vllm.script_path} {says}",
        evidence={"host": host},
        fix=(edit_script(vllm, edit.content, exposed=exposed),),
    )


def edit_script(vllm: Vllm, content: bytes, *, exposed: bool) -> Write:
    """The edit; with a restart only where vLLM listens wrongly now. Put back where vLLM fails with it."""
    assert vllm.script is not None
    before = vllm.command.host if vllm.command and vllm.command.host else "0.0.0.0"
    then = (restarted(vllm, LOOPBACK),) if exposed else ()
    return Write(
        vllm.script_path,
        content,
        f"vLLM is to listen on {LOOPBACK} alone",
        mode=vllm.script.mode,
        owner=vllm.script.owner,
        group=vllm.script.group,
        then=then,
        otherwise=put_back(vllm, before) if exposed else (),
        keep_attributes=True,
    )


def put_back(vllm: Vllm, host: str) -> tuple[Action, ...]:
    assert vllm.script is not None
    return (
        Write(
            vllm.script_path,
            vllm.script.content,
            "vLLM fails with the edited script: the old one is put back",
            then=(restarted(vllm, host),),
            keep_attributes=True,
        ),
    )


def wait_until_bound(look: Look, vllm: Vllm) -> Wait:
    host = vllm.command.host if vllm.command and vllm.command.host else "0.0.0.0"
    return Wait(
        f"vLLM answers on {LOOPBACK}:{vllm.port}",
        "the model is loaded again",
        look.answers.vllm.ready_timeout,
        Readiness(look, bound_to=LOOPBACK),
        makes=(VllmAnswers(vllm.port),),
        otherwise=put_back(vllm, host),
        fall_back_when_late=False,
        late=f"It stays bound to {LOOPBACK} and goes on loading; its log: journalctl -u {vllm.unit.name} -f",
        shell=answers_in_shell(vllm, bound_to=LOOPBACK),
    )


def check_others(vllm: Vllm) -> Iterator[Finding]:
    """Other sockets of its control group (torch's store, ZMQ): the firewall is what closes those."""
    for one in vllm.exposed:
        if one.port != vllm.port:
            yield Finding(
                "bind.other_listener",
                Level.WARN,
                f"{one.program or 'a process'} of {vllm.unit.name} also listens on {one}; the firewall closes it",
                remedy=f"nothing to do while the firewall is on; see: sudo ss -ltnp 'sport = :{one.port}'",
                evidence={"listener": str(one)},
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
        "One line of the launch script is changed, and vLLM restarts: until the model is loaded again there is no API. "
        "If vLLM fails with the new line, the old one is put back."
    ),
)
