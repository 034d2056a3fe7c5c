"""Real packets from a fresh network namespace: what another machine would meet at this server's ports.

A veth pair joins the namespace for a moment; both go when the probe's process ends. The packets come in by an
interface and from an address of their own, so rules by interface or source are evaluated as well (netfilter.py).
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .process import Process
from .server import Reach, Target
from .system import written_out

if TYPE_CHECKING:
    from .system import RealMachine

OUTSIDE, INSIDE = "vhs-out", "vhs-in"
# TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849): no server has a real route to them.
HOST4, PROBE4 = "192.0.2.1", "192.0.2.2"
HOST6, PROBE6 = "2001:db8:767::1", "2001:db8:767::2"
PATIENCE_S = 0.3
_SCRIPT = str(Path(__file__).with_name("probe.py"))
PROBE = ("unshare", "--net", "--", sys.executable, "-I", "-S", _SCRIPT, str(PATIENCE_S))
_ONE_AT_A_TIME = threading.Lock()


def begin() -> Process:
    """The probe in its namespace, which waits to be told what to try. Raises OSError."""
    return Process(PROBE, reads_later=True)


def reach(machine: RealMachine, targets: Sequence[Target], begun: Process | None = None) -> tuple[Reach, ...]:
    """How each target answers such packets; all unknown, with the reason, where no namespace can be had.

    `begun` is a probe that waits already.
    """
    if not targets:
        return ()
    wanted = "\n".join(target.line for target in targets).encode()
    machine.observer.command(written_out(PROBE, stdin=wanted))
    with _ONE_AT_A_TIME:
        try:
            with begun or begin() as probe:
                probe.give(wanted)
                failure = _join(machine, probe.pid)
                output = probe.wait(0.5 if failure else 15, machine.observer)
                # The kernel would remove the pair in its own time: the next probe may come before that.
                machine.command(("ip", "link", "delete", OUTSIDE), timeout_s=10)
        except OSError as error:
            return _unknown(targets, str(error))
    if failure or not output.ok:
        return _unknown(targets, failure or output.last_words)
    try:
        answers = json.loads(output.out)
    except ValueError:
        return _unknown(targets, output.last_words)
    return tuple(
        Reach(target, str(state), str(detail), float(ms))
        for target, (state, detail, ms) in zip(targets, answers, strict=True)
    )


def _unknown(targets: Sequence[Target], why: str) -> tuple[Reach, ...]:
    return tuple(Reach(target, "unknown", why) for target in targets)


def _join(machine: RealMachine, pid: int) -> str:
    """Joins the probe's namespace to this one by a veth pair; "" or why not."""
    namespace = f"/proc/{pid}/ns/net"
    ours = Path("/proc/self/ns/net").stat().st_ino
    for _ in range(100):
        try:
            if Path(namespace).stat().st_ino != ours:
                break
        except OSError:
            return "this server allows no new network namespace"
        machine.sleep(0.005)
    here = (
        f"link add {OUTSIDE} type veth peer name {INSIDE} netns {pid}\n"
        f"addr add {HOST4}/30 dev {OUTSIDE}\n"
        f"link set {OUTSIDE} up\n"
        f"addr add {HOST6}/126 dev {OUTSIDE} nodad\n"
    )
    # The first question for a neighbour may be lost while the pair is coming up; the next would come after a second.
    soon = "retrans 20 mcast_probes 10"
    there = (
        f"addr add {PROBE4}/30 dev {INSIDE}\n"
        f"link set {INSIDE} up\n"
        f"route add default via {HOST4}\n"
        f"addr add {PROBE6}/126 dev {INSIDE} nodad\n"
        f"route add ::/0 via {HOST6}\n"
        f"ntable change name arp_cache dev {INSIDE} {soon}\n"
        f"ntable change name ndisc_cache dev {INSIDE} {soon}\n"
        "link set lo up\n"
    )
    for argv, batch in (
        (("ip", "-force", "-batch", "-"), here),
        (("nsenter", f"--net={namespace}", "ip", "-force", "-batch", "-"), there),
    ):
        output = machine.command(argv, stdin=batch.encode(), timeout_s=10)
        # -force goes on past what a server without IPv6 refuses; the pair itself must be there.
        if "Failed" in output.err and ("veth" in output.err or "-:1" in output.err):
            return output.last_words
    return ""
