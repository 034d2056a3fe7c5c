"""A first installation in each mode, beside the guide's commands as a plain script: fresh servers, turn by turn.

Ours ends with all its proofs, the guide's with none. The server has the guide's packages already, as most have; in the
last round of figures it has not, and both have to install them. The guide's script is the same one beside each mode;
and once more the one that does what the mode asks for: opens port 80, and waits until the CA has issued.
"""

from pathlib import Path

from tests.bench.memory import peak
from tests.bench.row import Limit, Row, Rows, medians
from tests.lab import Lab, Server, ServerSpec, ensure_program_layer
from tests.lab.operator import Operator
from tests.lab.site import CA_FILE, CHAIN, DOMAIN, KEY, Site
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


def guide(lab: Lab, *, there: bool, mode: str = "internal") -> float:
    server = lab.boot(ServerSpec(guide_packages=there, standin=STANDIN))
    try:
        words: tuple[str, ...] = ()
        if mode != "internal":
            site = Site(lab, lab.acme(), Operator(lab, server))
            site.answer_mode(mode)
            words = (DOMAIN, of_caddy(server, site, mode))
        server.put(GUIDE, (HERE / "guide.sh").read_bytes())
        return timed(server, ("sh", GUIDE, *words))
    finally:
        server.discard()


def of_caddy(server: Server, site: Site, mode: str) -> str:
    """How Caddy gets the certificate in this mode, as the guide has it typed."""
    if mode == "acme":
        return f"tls ops@example.test {{\n\t\tca {site.acme.directory}\n\t\tca_root {CA_FILE}\n\t}}"
    # Where the service, whose user is not there yet, can read them.
    server.run(["sh", "-ec", f"install -d /srv/tls; install -m 0644 {CHAIN} {KEY} /srv/tls"])
    return "tls /srv/tls/chain.pem /srv/tls/key.pem"


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
                "guide, acme": lambda: guide(lab, there=True, mode="acme"),
                "guide, custom": lambda: guide(lab, there=True, mode="custom"),
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
    alike = [
        Row(f"first apply, {mode}", found[mode], "the guide's, in that mode", found[f"guide, {mode}"], 1.2)
        for mode in ("acme", "custom")
    ]
    packages = ("all to be installed", "guide, all to be installed")
    return [
        *modes,
        *alike,
        Row("first apply, its packages too", found[packages[0]], "the guide's, likewise", found[packages[1]], 1.2),
        Limit("memory of apply, at the most", memory, LARGEST_MIB),
    ]
