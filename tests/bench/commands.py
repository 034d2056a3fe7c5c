"""The program's commands beside what people use in their place, on booted servers: turn by turn, in one run.

The stand-in for vLLM loads in 0.3 s and sends a token a millisecond: its own time hardly counts.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import clock
from tests.bench.row import Row, Rows, medians
from tests.lab import Lab, ServerSpec, cache, ensure_program_layer
from tests.lab.base import Base
from tests.lab.machine import run
from tests.lab.mirror import download
from tests.lab.program import HOME, ensure_environment
from tests.lab.server import Server

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ANSWERS, GUIDE, PLAYBOOKS, TOOLS = "/root/answers.yaml", "/root/guide.sh", "/root/playbooks", "/opt/bench-tools"
ANSIBLE, PYINFRA = "ansible-core==2.19.*", "pyinfra==3.*"
PYTHON = f"{HOME}/bin/python"
OURS = ("vllm-https-setup",)
STANDIN = {"token_ms": 1}


def timed(server: Server, argv: Sequence[str], codes: Sequence[int] = (0,)) -> float:
    """How long the command takes on the server, in seconds."""
    began = clock.begin()
    result = server.run(list(argv), timeout=600, check=False, env={"ADDRESS": server.address})
    seconds = time.monotonic() - began
    assert result.code in codes, f"{argv}: {result}"
    return seconds


def tools(base: Base) -> tuple[Path, ...]:
    """The layers of Ansible and pyinfra, each in an environment of its own."""
    made = [
        ensure_environment(base, name, f"{TOOLS}/{name}", [wanted])
        for name, wanted in (("ansible", ANSIBLE), ("pyinfra", PYINFRA))
    ]
    return made[0] / "upper", made[1] / "upper", apt_module(base)


def apt_module(base: Base) -> Path:
    """A layer with python3-apt, which Ansible's module for apt needs, and would fetch by itself."""

    def build(into: Path) -> None:
        download(base.layers[0], into / "debs", ["python3-apt", "python-apt-common", "distro-info-data"])
        for deb in (into / "debs").glob("*.deb"):
            run(["dpkg-deb", "-x", deb, into / "upper"])

    return cache.built(f"python3-apt-{base.suite}", cache.key(base.key, "1"), build) / "upper"


def secured(lab: Lab, layer: Path) -> Server:
    server = lab.boot(ServerSpec(guide_packages=True, layers=(layer,), standin=STANDIN))
    text = f"version: 1\ntls: {{mode: internal}}\ncaddy: {{key_fingerprint: {lab.key_fingerprint}}}\n"
    server.put(ANSWERS, text.encode(), 0o600)
    timed(server, (*OURS, "apply", "--answers", ANSWERS))
    return server


def measure(rounds: int) -> Rows:
    with Lab() as lab:
        ours = secured(lab, ensure_program_layer(CHECKOUT))
        guide = lab.boot(ServerSpec(guide_packages=True))
        guide.put(GUIDE, (HERE / "guide.sh").read_bytes())
        timed(guide, ("sh", GUIDE))
        theirs = lab.boot(ServerSpec(guide_packages=True, layers=tools(lab.base)))
        theirs.run(["mkdir", "-p", PLAYBOOKS])
        for file in (HERE / "playbooks").iterdir():
            theirs.put(f"{PLAYBOOKS}/{file.name}", file.read_bytes())
        pyinfra = ("sh", "-c", f"cd {PLAYBOOKS} && {TOOLS}/pyinfra/bin/pyinfra -y @local deploy.py")
        ansible = ("sh", "-c", f"cd {PLAYBOOKS} && {TOOLS}/ansible/bin/ansible-playbook -i localhost, site.yml")
        timed(theirs, pyinfra)
        timed(theirs, ansible)
        found = medians(
            {
                "python": lambda: timed(ours, (PYTHON, "-c", "pass")),
                "version": lambda: timed(ours, (*OURS, "--version")),
                "help": lambda: timed(ours, (*OURS, "--help")),
                "usage": lambda: timed(ours, (*OURS, "nonsense"), (2,)),
                "guide": lambda: timed(guide, ("sh", GUIDE)),
                "plan": lambda: timed(ours, (*OURS, "plan", "--json")),
                "status": lambda: timed(ours, (*OURS, "status", "--json")),
                "apply": lambda: timed(ours, (*OURS, "apply", "--json", "--answers", ANSWERS)),
                "pyinfra": lambda: timed(theirs, pyinfra),
            },
            rounds,
        )
        found |= medians({"ansible": lambda: timed(theirs, ansible)}, max(rounds // 2, 1))
    start = [
        Row(name, found[key], "python3 -c pass", found["python"], 0.06, difference=True)
        for name, key in (("--version", "version"), ("--help", "help"), ("usage error", "usage"))
    ]
    again = "the guide's script again"
    return [
        *start,
        Row("plan", found["plan"], again, found["guide"], 0.4),
        Row("status, with its proofs", found["status"], again, found["guide"], 0.4),
        Row("apply, nothing to do", found["apply"], again, found["guide"], 0.4),
        Row("apply, nothing to do", found["apply"], "pyinfra", found["pyinfra"], 0.5),
        Row("apply, nothing to do", found["apply"], "Ansible", found["ansible"], 0.08),
    ]
