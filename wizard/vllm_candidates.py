"""Where the answers' unit does not exist: which units run vLLM, so that a person can name the right one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from .engine import Look
from .model import Finding, Level
from .parse.unit_files import exec_starts
from .server import Listener, read_through
from .vllm import Vllm

# In the order in which systemd prefers them.
DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
WANTS = "/etc/systemd/system/multi-user.target.wants"
OURS = re.compile(r"^vllm-https-setup")
CONTAINERS = ("docker-proxy", "rootlessport", "conmon", "pasta", "containerd-shim")


def check_missing(look: Look, vllm: Vllm, known: Collection[str] = ()) -> Finding:
    """`known` are the units that are answered for already."""
    name, found = vllm.unit.name, tuple(one for one in candidates(look) if one not in known)
    evidence = {"candidates": list(found)}
    key = "preflight.vllm_unit"
    if found:
        named = " or ".join(found[:3])
        return Finding(
            key,
            Level.BLOCKED,
            f"there is no {name}; vLLM is started by {', '.join(found)}",
            remedy=f"name vLLM's unit in the answers: vllm: {{unit: {found[0]}}}"
            if len(found) == 1
            else f"name vLLM's unit in the answers, vllm: {{unit: …}}: {named}",
            evidence=evidence,
        )
    listener = next((one for one in look.server.listeners() if one.port == vllm.port), None)
    if listener is not None and listener.program.startswith(CONTAINERS):
        return Finding(
            key,
            Level.BLOCKED,
            f"there is no {name}; port {vllm.port} is a container's ({listener.program}). vLLM in a container is not "
            "supported",
            remedy="let a systemd unit run vLLM itself, by a script with exec vllm serve …; until then publish the "
            f"port on loopback alone: -p 127.0.0.1:{vllm.port}:{vllm.port}",
            evidence=evidence,
        )
    if listener is not None:
        how = f"in {listener.unit}" if listener.unit else "by no unit"
        return Finding(
            key,
            Level.BLOCKED,
            f"there is no {name}; on port {vllm.port} {listener.program} listens (process {listener.pid}, started "
            f"{how}), which nothing would start after a reboot",
            remedy="make it a unit of the system in /etc/systemd/system, enabled, and name it in the answers: vllm: "
            "{unit: …}",
            evidence=evidence,
        )
    return Finding(
        key,
        Level.BLOCKED,
        f"there is no {name}",
        remedy="name vLLM's unit in the answers (vllm.unit); systemctl list-units '*vllm*' shows candidates",
        evidence=evidence,
    )


def check_others(look: Look, known: Collection[str]) -> Iterator[Finding]:
    """Services with vLLM that run and that no answer names: nothing here speaks of them otherwise."""
    listening: dict[str, list[Listener]] = {}
    for one in look.server.listeners():
        if one.unit.endswith(".service") and one.unit not in known and _runs_vllm(look, one):
            listening.setdefault(one.unit, []).append(one)
    for unit, listeners in listening.items():
        named = path_for(unit, [one.path for one in look.answers.vllm.more])
        add = f"vllm: {{more: [{{unit: {unit}, path: {named}}}]}}"
        where = ", ".join(str(one) for one in listeners)
        evidence = {"unit": unit, "path": named, "listeners": [str(one) for one in listeners]}
        if all(one.is_loopback for one in listeners):
            said = f"{unit} runs vLLM, too, for programs on this server alone ({where}); to serve it: {add}"
            yield Finding("preflight.other_vllm", Level.INFO, said, evidence=evidence)
            continue
        said = f"{unit} runs vLLM, too ({where}): it is not bound to loopback here, and not served"
        remedy = f"to serve it as well, add to the answers: {add}"
        yield Finding("preflight.other_vllm", Level.WARN, said, remedy, evidence)


def path_for(unit: str, taken: Collection[str | None]) -> str:
    """What a service could be served under: of vllm-embed.service, embed."""
    stem = re.sub(r"[^a-z0-9_-]+", "-", unit.removesuffix(".service").lower())
    stem = re.sub(r"^vllm[-_]*|^[-_]+|[-_]+$", "", stem)[:40]
    words = stem if stem and not re.fullmatch(r"v[0-9]+", stem) else f"model{stem}"
    return next(one for one in (words, *(f"{words}-{number}" for number in range(2, 1000))) if one not in taken)


def _runs_vllm(look: Look, listener: Listener) -> bool:
    """By the name of its process; of Python, by what the unit's own file starts."""
    program = listener.program.lower()
    if program.startswith("vllm"):
        return True
    if not (program.startswith("python") and "llm" in listener.unit):
        return False
    state = look.server.read(f"{DIRECTORIES[0]}/{listener.unit}")
    return state is not None and state.kind == "file" and "vllm" in " ".join(exec_starts(state.text)).lower()


def candidates(look: Look) -> Iterator[str]:
    """Services whose ExecStart speaks of vLLM; of a template its instances that are enabled."""
    seen: set[str] = set()
    for directory in DIRECTORIES:
        for name in look.server.names(directory):
            if not name.endswith(".service") or name in seen or OURS.match(name):
                continue
            seen.add(name)
            # What has vLLM in its name, or is an operator's own, is worth a look into.
            if directory == DIRECTORIES[-1] and "llm" not in name:
                continue
            state = read_through(look.server, f"{directory}/{name}")
            if state is None or state.kind != "file" or "vllm" not in " ".join(exec_starts(state.text)).lower():
                continue
            if name.endswith("@.service"):
                yield from (one for one in look.server.names(WANTS) if one.startswith(name.removesuffix(".service")))
            else:
                yield name
