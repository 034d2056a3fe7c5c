"""A first installation in each mode, beside the guide's commands as a plain script: fresh servers, turn by turn.

Ours ends with all its proofs, the guide's with none. The server has the guide's packages already, as most have; in the
last round of figures it has not, and both have to install them.
"""

from pathlib import Path

from tests.bench.memory import peak
from tests.bench.row import Limit, Row, Rows, medians
from tests.lab import Lab, ServerSpec, ensure_program_layer
from tests.lab.operator import Operator
from tests.lab.site import Site
from tests.lab.space import Deadline

from .commands import ANSWERS, CHECKOUT, GUIDE, HERE, OURS, STANDIN, timed

LARGEST_MIB = 60


def first(lab: Lab, layer: Path, mode: str, *, there: bool) -> float:
    """How long the first apply takes on a fresh server, in seconds."""
    server = lab.boot(ServerSpec(layers=(layer,), guide_packages=there, standin=STANDIN))
    try:
        operator = Operator(lab, server)
        site = Site(lab, lab.acme(), operator)
        if mode != "internal":
            site.answer_mode(mode)
        server.put(ANSWERS, server.get("/home/operator/answers.yaml"), 0o600)
        return timed(server, (*OURS, "apply", "--json", "--answers", ANSWERS))
    finally:
        server.discard()


def guide(lab: Lab, *, there: bool) -> float:
    server = lab.boot(ServerSpec(guide_packages=there, standin=STANDIN))
    try:
        server.put(GUIDE, (HERE / "guide.sh").read_bytes())
        return timed(server, ("sh", GUIDE))
    finally:
        server.discard()


def largest(lab: Lab, layer: Path) -> float:
    """The most memory that the process of a first apply ever had, in MiB."""
    server = lab.boot(ServerSpec(layers=(layer,), guide_packages=True, standin=STANDIN))
    try:
        operator = Operator(lab, server)
        with operator.start() as typed:
            until = Deadline("a run", 30)
            while not (pid := operator.run_process()):
                until.tick(0.005)
            seen = 0.0
            while (now := peak(pid)) is not None:
                seen = now
                until.tick(0.01)
            assert typed.end().code == 0
        return seen
    finally:
        server.discard()


def measure(rounds: int) -> Rows:
    with Lab() as lab:
        layer = ensure_program_layer(CHECKOUT)
        found = medians(
            {
                "guide": lambda: guide(lab, there=True),
                "internal": lambda: first(lab, layer, "internal", there=True),
                "acme": lambda: first(lab, layer, "acme", there=True),
                "custom": lambda: first(lab, layer, "custom", there=True),
                "guide, all to be installed": lambda: guide(lab, there=False),
                "all to be installed": lambda: first(lab, layer, "internal", there=False),
            },
            rounds,
        )
        memory = largest(lab, layer)
    modes = [
        Row(f"first apply, {mode}", found[mode], "the guide's script, fresh", found["guide"], 1.2)
        for mode in ("internal", "acme", "custom")
    ]
    packages = ("all to be installed", "guide, all to be installed")
    return [
        *modes,
        Row("first apply, its packages too", found[packages[0]], "the guide's, likewise", found[packages[1]], 1.2),
        Limit("memory of apply, at the most", memory, LARGEST_MIB),
    ]
