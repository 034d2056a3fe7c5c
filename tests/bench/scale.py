"""A server with much on it: 200 rules in ufw, 200 listeners, 50 addresses; beside the same one without them."""

from tests.bench.commands import ANSWERS, CHECKOUT, OURS, secured, timed
from tests.bench.row import Row, Rows, medians
from tests.lab import Lab, ensure_program_layer
from tests.lab.server import Server

RULES, LISTENERS, ADDRESSES = 200, 200, 50
LISTEN = """\
import socket, time
kept = [socket.create_server(("127.0.0.1", 20000 + number)) for number in range(%d)]
time.sleep(1e6)
"""
# Of each kind there are a few on any server: ten times as many may take ten times as long, and do not come near.
LINEAR = 10.0


def fill(server: Server) -> None:
    rules = "".join(f"ufw allow from 10.80.{number}.0/24 to any port 9100 proto tcp; " for number in range(RULES))
    addresses = "".join(f"ip address add 10.92.0.{number + 1}/32 dev host0; " for number in range(ADDRESSES))
    server.run(["sh", "-c", f"({rules}) >/dev/null"], timeout=300)
    server.run(["sh", "-c", addresses])
    server.run(["systemd-run", "-q", "--unit=many", "python3", "-c", LISTEN % LISTENERS])


def measure(rounds: int) -> Rows:
    with Lab() as lab:
        layer = ensure_program_layer(CHECKOUT)
        few, many = secured(lab, layer), secured(lab, layer)
        fill(many)
        timed(many, (*OURS, "apply", "--answers", ANSWERS))
        found = medians(
            {
                "few, plan": lambda: timed(few, (*OURS, "plan", "--json")),
                "many, plan": lambda: timed(many, (*OURS, "plan", "--json")),
                "few, status": lambda: timed(few, (*OURS, "status", "--json")),
                "many, status": lambda: timed(many, (*OURS, "status", "--json"), (0, 1)),
            },
            rounds,
        )
    beside = "without them"
    work = f"{RULES} rules, {LISTENERS} listeners"
    return [
        Row(f"plan, {work}", found["many, plan"], beside, found["few, plan"], LINEAR),
        Row(f"status, {work}", found["many, status"], beside, found["few, status"], LINEAR),
    ]
