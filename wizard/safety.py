"""The firewall's safety: arm an undo that needs nothing of ours, prove that the operator gets in, disarm.

The undo is a unit of ufw and coreutils alone. A timer starts it after `safety_seconds`, and a boot does while the
marker is there: so it also comes when this program was killed, or the power went.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import paths
from .engine import Look
from .model import Action, FileIs, Probe, Remove, Run, UnitIs, Wait, Write
from .parse.netfilter import Packet, Ruleset, evaluate
from .progress import OPEN_ANOTHER, PROOF
from .queries import LOADED_RULES
from .render import render
from .server import Address, FileState, Server
from .ssh import listening_at

UNIT_DIRECTORY = "/etc/systemd/system"
SERVICE_PATH = f"{UNIT_DIRECTORY}/{paths.REVERT_SERVICE}"
TIMER_PATH = f"{UNIT_DIRECTORY}/{paths.REVERT_TIMER}"
UFW_FILES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/ufw/ufw.conf", "/etc/default/ufw")
KEPT_STATE = f"{paths.FIREWALL_BACKUP}/ufw.conf"
MARGIN_S = 3


def arm(look: Look, *, was_active: bool) -> tuple[Action, ...]:
    """Keeps ufw's files, and starts the countdown. Where an earlier run left it armed, its copy is the true one."""
    seconds = look.answers.firewall.safety_seconds
    countdown = Run(
        ("systemctl", "restart", paths.REVERT_TIMER),
        f"from now on the firewall puts itself back in {seconds} s unless it is proved",
        makes=(UnitIs(paths.REVERT_TIMER, active=True),),
    )
    directory = paths.FIREWALL_BACKUP
    kept = look.server.read(KEPT_STATE) if look.server.read(paths.UNCONFIRMED) is not None else None
    if kept is not None:
        if all(look.server.read(path) is not None for path in (SERVICE_PATH, TIMER_PATH)):
            return (countdown,)
        was_active = "ENABLED=yes" in kept.text.splitlines()
    service = render("revert.service.j2", was_active=was_active, directory=directory, marker=paths.UNCONFIRMED)
    timer = render("revert.timer.j2", seconds=seconds, service=paths.REVERT_SERVICE)
    why = "the undo: ufw and coreutils alone, nothing of ours"
    keep = Run(
        ("install", "-D", "-p", "-m", "0640", "-t", directory, *UFW_FILES),
        "keep the firewall's rules and state as they are now",
        makes=(FileIs(KEPT_STATE, b"ENABLED=yes\n" if was_active else b"ENABLED=no\n", 0o640),),
    )
    return (
        *((keep,) if kept is None else ()),
        Write(SERVICE_PATH, service.encode(), why),
        Write(TIMER_PATH, timer.encode(), why),
        Run(
            ("systemctl", "enable", "--no-reload", paths.REVERT_SERVICE),
            "the undo also comes at the next boot, while the mark is there",
            makes=(UnitIs(paths.REVERT_SERVICE, active=False, enabled=True),),
        ),
        # The mark is last: where it is, all else that the undo needs is there too.
        Write(paths.UNCONFIRMED, b"", "marks the firewall as not yet proved", mode=0o600),
        countdown,
    )


def prove_and_disarm(look: Look, ports: tuple[int, ...]) -> tuple[Action, ...]:
    """Waits for the proof; then the undo is taken away. Without a proof the undo is started at once."""
    seconds = look.answers.firewall.safety_seconds
    revert = Run(
        ("systemctl", "start", paths.REVERT_SERVICE),
        "the proof did not come: the firewall is put back as it was",
    )
    disarm = (Remove(paths.UNCONFIRMED, "proved: the undo will not come any more"), *_disarm())
    named = ", ".join(map(str, ports)) or "no port: SSH is not used here"
    return (
        Wait(
            f"{PROOF} (port {named})",
            "a packet from a fresh network namespace, and the loaded rules for the operator's own address",
            max(seconds - MARGIN_S, 5),
            Proof(look, ports),
            otherwise=(revert, *disarm),
            late="The firewall was put back as it was before.",
            shell="firewall_confirmed",
        ),
        *disarm,
    )


def _disarm(*, timer: bool = True, service: bool = True) -> tuple[Action, ...]:
    """Takes the undo away, whose mark is gone already; its units' files go last: they show that work is left."""
    stop = Run(
        ("systemctl", "stop", paths.REVERT_TIMER),
        "end the countdown",
        makes=(UnitIs(paths.REVERT_TIMER, active=False, enabled=False, exists=False),),
    )
    disable = Run(
        ("systemctl", "disable", "--no-reload", paths.REVERT_SERVICE),
        "and not at boot either",
        makes=(UnitIs(paths.REVERT_SERVICE, active=False, enabled=False, exists=False),),
    )
    return (
        *((stop,) if timer else ()),
        *((disable,) if service else ()),
        Run(
            ("rm", "-rf", "--", paths.FIREWALL_BACKUP),
            "no longer needed",
            makes=(FileIs(paths.UNCONFIRMED, None), FileIs(KEPT_STATE, None)),
        ),
        *((Remove(SERVICE_PATH, "no longer needed"),) if service else ()),
        *((Remove(TIMER_PATH, "no longer needed"),) if timer else ()),
    )


def clear_away(server: Server) -> tuple[Action, ...]:
    """What a run that was killed while it disarmed has left of the undo; nothing while the mark is there."""
    if server.read(paths.UNCONFIRMED) is not None:
        return ()
    timer, service = (server.read(path) is not None for path in (TIMER_PATH, SERVICE_PATH))
    return _disarm(timer=timer, service=service) if timer or service else ()


def forget(server: Server) -> tuple[Action, ...]:
    """The undo taken away where the firewall itself is taken back, or was never changed."""
    if server.read(paths.UNCONFIRMED) is None:
        return clear_away(server)
    return (Remove(paths.UNCONFIRMED, "the firewall is as it was before"), *_disarm())


@dataclass(frozen=True)
class Doubt:
    """Why the firewall can't be called proved; `lost` is certain, and not only unknown."""

    text: str
    lost: bool = False


class Proof:
    """The look of the wait: packets and rules agree that SSH is open, or somebody has logged in since."""

    def __init__(self, look: Look, ports: tuple[int, ...]) -> None:
        self._look = look
        self._ports = ports
        self._logins_before: frozenset[str] | None = None
        self._confirmed_before: FileState | None = None

    def __call__(self, server: Server) -> Probe:
        found = self._find(server)
        if found.done and server.read(paths.UNCONFIRMED) is None:
            # On a busy machine a look can outlast the countdown: what it saw is the old firewall, which lets all in.
            return Probe(False, "the countdown was over first, and the firewall is as it was before")
        return found

    def _find(self, server: Server) -> Probe:
        logins, confirmed = frozenset(server.connections(self._ports)), server.read(paths.CONFIRMED)
        if self._logins_before is None:
            self._logins_before, self._confirmed_before = logins, confirmed
        if confirmed is not None and confirmed != self._confirmed_before:
            return Probe(True, "the operator has confirmed that SSH lets new connections in")
        new = sorted(logins - self._logins_before)
        if new:
            return Probe(True, f"a new SSH connection came in from {new[0]}")
        if not self._ports:
            return Probe(True, "SSH is not used here, as the answers say: there is nothing to prove")
        doubts = find_doubts(server, self._look, self._ports)
        if not doubts:
            return Probe(True, "a packet from outside reached SSH, and the rules let the operator in")
        return Probe(None, doubts[0].text, OPEN_ANOTHER)


def find_doubts(server: Server, look: Look, ports: tuple[int, ...]) -> list[Doubt]:
    """Each reason not to be sure that new SSH connections get in. None at all is the proof."""
    doubts = []
    server.expect(LOADED_RULES)
    primaries = [one for one in server.addresses() if one.primary] or list(server.addresses())[:1]
    if not server.firewall().defaults.ipv6:
        # Nobody gets in by IPv6, as the operator has set it: that proves nothing of SSH.
        primaries = [one for one in primaries if ":" not in one.address] or primaries
    for reached in server.reach(listening_at(server, [one.address for one in primaries], ports)):
        where = f"{reached.target.address} port {reached.target.port}"
        if reached.state == "unknown":
            doubts.append(Doubt(f"no packet could be sent to {where} ({reached.detail})"))
        elif reached.state != "open":
            doubts.append(Doubt(f"a packet from outside to {where} was {reached.state}", lost=True))
    return doubts + _doubts_of_rules(server, look, primaries, ports)


def _doubts_of_rules(server: Server, look: Look, primaries: list[Address], ports: tuple[int, ...]) -> list[Doubt]:
    firewall = server.firewall()
    source = look.operator.address if look.operator else None
    needed = (look.operator.port,) if look.operator and look.operator.port in ports else ports
    doubts = []
    for address in primaries:
        family = 6 if ":" in address.address else 4
        if source is not None and (":" in source) != (family == 6):
            continue
        kernel: Ruleset | None = firewall.kernel6 if family == 6 else firewall.kernel4
        if kernel is None:
            doubts.append(Doubt(f"the loaded IPv{family} rules can't be read"))
            continue
        for port in needed:
            packet = Packet("tcp", port, source, address.interface, family=family, destination=address.address)
            verdict = evaluate(kernel, packet)
            if verdict.result != "accept":
                rule = f" ({verdict.rule})" if verdict.rule else ""
                text = f"the rules' verdict on port {port} from {source or 'anywhere'} is {verdict.result}{rule}"
                doubts.append(Doubt(text, lost=verdict.result in ("drop", "reject")))
    return doubts
