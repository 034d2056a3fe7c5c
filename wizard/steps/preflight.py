"""Preflight: is this a server that we know how to secure, and is nothing in the way?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..apt import CADDY_PREREQUISITES
from ..engine import Look, Step
from ..model import Finding, Level, ListensOn, Run, UnitIs, VllmAnswers, Wait
from ..questions import Choice, Kind, Question
from ..server import read_through
from ..ssh import UNITS, find_ssh_ports
from ..vllm import KEY_NAME, Readiness, Vllm, answers_in_shell, find_vllm, last_words

OURS = ("caddy", "ufw", *CADDY_PREREQUISITES)
WEB_PORTS = (80, 443)


def inspect(look: Look) -> Iterator[Finding]:
    # One `systemctl show` for all that any step asks later.
    look.server.units(look.answers.vllm.unit, "caddy.service", *UNITS)
    yield check_os(look)
    yield check_systemd(look)
    yield check_gpu(look)
    yield from check_vllm(look)
    yield from check_ssh(look)
    yield check_web_ports(look)
    yield check_packages(look)


def check_os(look: Look) -> Finding:
    release = read_through(look.server, "/etc/os-release")
    fields = dict(re.findall(r'^(\w+)="?(.*?)"?$', release.text if release else "", re.M))
    name = fields.get("PRETTY_NAME", "an unknown system")
    if fields.get("ID") == "ubuntu" and fields.get("VERSION_ID") == "24.04":
        return Finding("preflight.os", Level.OK, name)
    return Finding(
        "preflight.os",
        Level.BLOCKED,
        f"this is {name}; made and tested for Ubuntu 24.04",
        remedy="to try all the same, answer preflight: {accept: [preflight.os]}",
        evidence={"id": fields.get("ID"), "version_id": fields.get("VERSION_ID")},
    )


def check_systemd(look: Look) -> Finding:
    if look.server.read("/run/systemd/system") is not None:
        return Finding("preflight.systemd", Level.OK, "systemd runs this server")
    return Finding(
        "preflight.systemd",
        Level.BLOCKED,
        "systemd is not running here (a container?)",
        remedy="run this on the server itself, not in a container",
    )


def check_gpu(look: Look) -> Finding:
    output = look.server.query(("nvidia-smi", "-L"), timeout_s=20)
    cards = re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", output.out, re.M)
    if output.ok and cards:
        return Finding("preflight.gpu", Level.OK, ", ".join(cards), evidence={"gpus": cards})
    if look.server.read("/dev/kfd") is not None:
        return Finding("preflight.gpu", Level.OK, "an AMD GPU (/dev/kfd)")
    return Finding(
        "preflight.gpu",
        Level.BLOCKED,
        "no GPU answers",
        remedy="see what nvidia-smi says; for vLLM on a CPU answer preflight: {accept: [preflight.gpu]}",
        evidence={"nvidia-smi": output.last_words},
    )


def check_vllm(look: Look) -> Iterator[Finding]:
    vllm = find_vllm(look)
    name = vllm.unit.name
    if not vllm.unit.exists:
        yield Finding(
            "preflight.vllm_unit",
            Level.BLOCKED,
            f"there is no {name}",
            remedy="name vLLM's unit in the answers (vllm.unit); systemctl list-units '*vllm*' shows candidates",
        )
        return
    yield from check_unit(look, vllm)
    yield check_script(vllm)
    yield from check_key(vllm)
    if vllm.key is not None:
        yield from check_answers(look, vllm)


def check_unit(look: Look, vllm: Vllm) -> Iterator[Finding]:
    name = vllm.unit.name
    if not vllm.unit.is_enabled:
        yield Finding(
            "preflight.vllm_unit",
            Level.BLOCKED,
            f"{name} is {vllm.unit.enabled or 'not enabled'}: after a reboot there would be no API",
            remedy=f"sudo systemctl enable {name}",
        )
    elif vllm.unit.active == "failed" or vllm.unit.sub == "auto-restart":
        yield Finding(
            "preflight.vllm_unit",
            Level.BLOCKED,
            f"{name} has failed: {last_words(look.server, name)}",
            remedy=f"put it right first; its log: journalctl -u {name} -n 50",
            evidence={"active": vllm.unit.active, "result": vllm.unit.properties.get("Result", "")},
        )
    elif vllm.unit.active == "inactive":
        yield Finding(
            "preflight.vllm_unit",
            Level.DRIFT,
            f"{name} is enabled but stopped",
            fix=(
                Run(
                    ("systemctl", "start", name),
                    "start vLLM, as its unit says it should run",
                    undo=(
                        Run(("systemctl", "stop", name), "", makes=(UnitIs(name, active=False), ListensOn(name, ()))),
                    ),
                    makes=(UnitIs(name, active=True),),
                ),
                loading(look, vllm),
            ),
        )
    else:
        yield Finding("preflight.vllm_unit", Level.OK, f"{name} is enabled and active, as user {vllm.user}")


def loading(look: Look, vllm: Vllm) -> Wait:
    return Wait(
        "vLLM answers",
        "the model is still loading",
        look.answers.vllm.ready_timeout,
        Readiness(look),
        makes=(VllmAnswers(vllm.port), *listening(vllm)),
        late=f"It goes on loading. Its log: journalctl -u {vllm.unit.name} -f; then run this again",
        shell=answers_in_shell(vllm),
    )


def listening(vllm: Vllm) -> tuple[ListensOn, ...]:
    """Where it will listen when it has loaded, as its launch command says; what listens already is known."""
    if vllm.listeners:
        return ()
    host = vllm.command.host if vllm.command and vllm.command.host else "0.0.0.0"
    return (ListensOn(vllm.unit.name, ((host, vllm.port),)),)


def check_script(vllm: Vllm) -> Finding:
    if vllm.script is not None and vllm.script.kind == "file":
        return Finding(
            "preflight.launch_script",
            Level.OK,
            f"launched by {vllm.script_path}, port {vllm.port}",
            evidence={"path": vllm.script_path, "port": vllm.port},
        )
    return Finding(
        "preflight.launch_script",
        Level.BLOCKED,
        f"the launch script was not found ({vllm.script_path or 'the unit names no script'})",
        remedy="name it in the answers: vllm: {launch_script: /path/to/start-vllm.sh}",
    )


def check_key(vllm: Vllm) -> Iterator[Finding]:
    if vllm.environment_missing:
        yield Finding(
            "preflight.env_file",
            Level.BLOCKED,
            f"the env file {vllm.environment_missing[0]} is missing",
            remedy="write it (VLLM_API_KEY=…, mode 0600), or name another: vllm: {env_file: …}",
        )
    elif vllm.key is None:
        yield Finding(
            "preflight.api_key",
            Level.BLOCKED,
            f"no {KEY_NAME} in {', '.join(vllm.environment_files) or 'any env file of the unit'}",
            remedy=f"add {KEY_NAME}=… to the unit's env file, then sudo systemctl restart {vllm.unit.name}",
        )
    else:
        summary, evidence = f"an API key is set in {vllm.key_file}", {"env_file": vllm.key_file}
        yield Finding("preflight.api_key", Level.OK, summary, evidence=evidence)


def check_answers(look: Look, vllm: Vllm) -> Iterator[Finding]:
    """vLLM guards /v1 by its key: 401 without it, 200 with it. Not yet answering is loading, and waited for."""
    if not vllm.unit.is_active:
        return
    with_key = look.server.vllm_ready(vllm.request("/v1/models", with_key=True))
    if with_key.status == 0:
        yield Finding(
            "preflight.vllm_answers",
            Level.DRIFT,
            f"vLLM does not answer on port {vllm.port} yet ({with_key.error})",
            fix=(loading(look, vllm),),
        )
        return
    without = look.server.vllm_ready(vllm.request("/v1/models", with_key=False))
    if without.status == 200:
        yield Finding(
            "preflight.vllm_answers",
            Level.BLOCKED,
            "vLLM answers /v1/models without a key: it was started before the key was set",
            remedy=f"sudo systemctl restart {vllm.unit.name}, then run this again",
        )
    elif with_key.status != 200:
        yield Finding(
            "preflight.vllm_answers",
            Level.BLOCKED,
            f"vLLM answers {with_key.status} to a request with the key of its env file",
            remedy=f"was the env file changed since the start? sudo systemctl restart {vllm.unit.name}",
            evidence={"with_key": with_key.status, "without_key": without.status},
        )
    else:
        yield Finding(
            "preflight.vllm_answers",
            Level.OK,
            f"vLLM answers: {without.status} without the key, 200 with it",
            evidence={"with_key": with_key.status, "without_key": without.status},
        )


def check_ssh(look: Look) -> Iterator[Finding]:
    found = find_ssh_ports(look)
    if found.ports or look.answers.firewall.ssh_ports == ():
        named = "; ".join(f"{port}, because {', '.join(why)}" for port, why in sorted(found.reasons.items()))
        yield Finding(
            "preflight.ssh",
            Level.OK,
            f"SSH on port {named}" if named else "no SSH, as the answers say",
            evidence={"ports": {str(port): list(why) for port, why in found.reasons.items()}},
        )
    else:
        yield Finding(
            "preflight.ssh",
            Level.BLOCKED,
            "no SSH port was found, and none is named in the answers",
            remedy="firewall: {ssh_ports: [22]}; or [] on a server that is not administered over SSH",
        )
    for port in found.configured_only:
        yield Finding(
            "preflight.ssh_not_listening",
            Level.WARN,
            f"sshd is configured for port {port}, but nothing listens on it yet; it will be allowed too",
            remedy="after a change of sshd's port: sudo systemctl daemon-reload; sudo systemctl restart ssh.socket",
        )


def check_web_ports(look: Look) -> Finding:
    others = [
        one
        for one in look.server.listeners()
        if one.port in WEB_PORTS and one.unit != "caddy.service" and not one.is_loopback
    ]
    if not others:
        return Finding("preflight.web_ports", Level.OK, "ports 80 and 443 are free, or Caddy's")
    first = others[0]
    return Finding(
        "preflight.web_ports",
        Level.BLOCKED,
        f"{first.program or 'another program'} ({first.unit or 'no unit'}) listens on port {first.port}",
        remedy=f"stop it: sudo systemctl disable --now {first.unit or first.program}; or use another server",
        evidence={"listeners": [f"{one} {one.program} {one.unit}" for one in others]},
    )


def check_packages(look: Look) -> Finding:
    foreign = [name for name in look.server.half_configured() if name not in OURS]
    if foreign:
        return Finding(
            "preflight.packages",
            Level.BLOCKED,
            f"packages are only half installed: {', '.join(foreign[:5])}",
            remedy="sudo dpkg --configure -a; then sudo apt-get install -f",
            evidence={"packages": foreign},
        )
    return Finding("preflight.packages", Level.OK, "apt and dpkg are in order")


ACCEPTABLE = {
    "preflight.os": "go on with this system all the same",
    "preflight.gpu": "go on without a GPU: vLLM runs on the CPU",
}


def ask(look: Look, seen: Sequence[Finding]) -> Iterator[Question]:
    """What could not be found is asked for; what may be let pass can be let pass."""
    blocked = {finding.key for finding in seen if finding.level is Level.BLOCKED}
    accepted = look.answers.preflight.accept
    choices = [Choice(key, words) for key, words in ACCEPTABLE.items() if key in blocked or key in accepted]
    if choices:
        yield Question("preflight.accept", "Let pass", Kind.ANY, tuple(choices))
    vllm = find_vllm(look)
    if not vllm.unit.exists:
        yield Question("vllm.unit", "Unit of vLLM", Kind.TEXT, otherwise="vllm.service")
    elif "preflight.launch_script" in blocked:
        yield Question("vllm.launch_script", "Launch script", Kind.PATH, otherwise="what the unit starts")
    if {"preflight.env_file", "preflight.api_key"} & blocked:
        yield Question("vllm.env_file", "Env file", Kind.PATH, otherwise="what the unit names")
    if "preflight.ssh" in blocked:
        yield Question("firewall.ssh_ports", "SSH ports", Kind.LIST, note="as in: 22, 2222")


STEP = Step(
    "preflight",
    "Preflight",
    inspect,
    ask=ask,
    about="Can this server be secured, and is nothing in the way?",
    help=(
        "Each line is something that was looked at, and nothing has been changed. ✓ is in order. ✗ stands in the way: "
        "the line below it says what to type in another terminal; then check again. Some of these can be let pass "
        "where you know better.\n\n"
        "vLLM must be a systemd unit that is enabled and runs, with its API key in an env file: then a reboot brings "
        "it back, and no other user of this server can read the key."
    ),
)
