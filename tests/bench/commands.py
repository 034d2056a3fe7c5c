"""The program's commands beside what people use in their place, on booted servers: turn by turn, in one run.

Prints medians, and ratios of what was measured side by side. Figures of different machines can't be compared, ratios
can. The stand-in for vLLM loads in 0.3 s and sends a token a millisecond: its own time hardly counts.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import Lab, ServerSpec, cache, ensure_program_layer
from tests.lab.base import Base
from tests.lab.machine import run
from tests.lab.mirror import download
from tests.lab.program import ensure_environment
from tests.lab.server import Server

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ANSWERS, GUIDE, PLAYBOOKS, TOOLS = "/root/answers.yaml", "/root/guide.sh", "/root/playbooks", "/opt/bench-tools"
ANSIBLE, PYINFRA = "ansible-core==2.19.*", "pyinfra==3.*"
PYTHON = "/opt/vllm-https-setup/bin/python"
OURS = ("vllm-https-setup",)


@dataclass(frozen=True)
class Row:
    """What was measured beside what: medians in seconds (or MiB), their ratio or difference, and what is wanted."""

    work: str
    ours: float
    beside: str
    theirs: float
    wanted: float
    unit: str = "s"
    difference: bool = False

    @property
    def value(self) -> float:
        return self.ours - self.theirs if self.difference else self.ours / self.theirs

    @property
    def met(self) -> bool:
        return self.value <= self.wanted


def timed(server: Server, argv: Sequence[str], codes: Sequence[int] = (0,)) -> float:
    """How long the command takes on the server, in seconds."""
    began = time.monotonic()
    result = server.run(list(argv), timeout=600, check=False, env={"ADDRESS": server.address})
    seconds = time.monotonic() - began
    assert result.code in codes, f"{argv}: {result}"
    return seconds


def medians(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each of these once a round, in turn."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(times) for name, times in found.items()}


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
    server = lab.boot(ServerSpec(guide_packages=True, layers=(layer,), standin={"token_ms": 1}))
    text = f"version: 1\ntls: {{mode: internal}}\ncaddy: {{key_fingerprint: {lab.key_fingerprint}}}\n"
    server.put(ANSWERS, text.encode(), 0o600)
    timed(server, (*OURS, "apply", "--answers", ANSWERS))
    return server


def measure(rounds: int) -> list[Row]:
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


def main() -> None:
    as_json = "--json" in sys.argv
    rounds = next((int(word) for word in sys.argv[1:] if word.isdigit()), 7)
    rows = measure(rounds)
    if as_json:
        print(json.dumps([{**asdict(row), "value": row.value, "met": row.met} for row in rows], indent=1))
        return
    print(f"Medians of {rounds} rounds, in turn, warm")
    for row in rows:
        shown = f"+{row.value:.3f} s" if row.difference else f"{row.value:.2f} ×"
        wanted = f"+{row.wanted} s" if row.difference else f"{row.wanted} ×"
        sign = "✓" if row.met else "✗"
        figures = f"{row.work:<24} {row.ours:6.3f} s   {row.beside:<25} {row.theirs:6.3f} s"
        print(f"{sign} {figures}   {shown:<9} (wanted {wanted})")


if __name__ == "__main__":
    main()
