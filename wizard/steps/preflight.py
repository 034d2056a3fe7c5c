"""Preflight: is this a server that we know how to secure, and is nothing in the way?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .. import ssh, surroundings
from ..engine import Look, Step
from ..hardware import check_clock, check_cloud, check_gpu
from ..model import Finding, Level
from ..packages import check_packages
from ..queries import EVERY_LOOK, units_of_every_look
from ..questions import Choice, Kind, Question
from ..server import read_through
from ..vllm import find_vllm
from ..vllm_checks import check_vllm
from ..web_ports import check_web_ports


def inspect(look: Look) -> Iterator[Finding]:
    look.server.expect(EVERY_LOOK)
    look.server.units(*units_of_every_look(look.answers.vllm.unit))
    yield check_os(look)
    yield check_systemd(look)
    yield check_gpu(look)
    yield from check_clock(look)
    yield from check_vllm(look)
    yield from ssh.check_ssh(look)
    yield check_web_ports(look)
    yield from check_packages(look)
    yield from surroundings.check_surroundings(look)
    yield from check_cloud(look)


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
    more = [one.model_dump(exclude_unset=True) for one in look.answers.vllm.more]
    others = [one.evidence for one in seen if one.key == "preflight.other_vllm"]
    more += [{"unit": one["unit"], "path": one["path"]} for one in others]
    if more:
        served = tuple(Choice(one, f"{one['unit']} as {one.get('path') or one.get('host')}") for one in more)
        yield Question("vllm.more", "Serve these, too", Kind.ANY, served, tells="preflight.other_vllm")
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
