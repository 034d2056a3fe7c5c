"""ufw's files of rules, which it writes over the old ones: on a full disk they are cut off, and ufw may say nothing.

A boot loads nothing of such a file and keeps ufw's default, deny: nobody gets in any more, by SSH neither.
"""

from __future__ import annotations

from .model import Finding, FirewallIs, Level, Run
from .server import Firewall


def write_again(firewall: Firewall) -> tuple[str, ...]:
    """The command by which ufw writes its rules as it reads them; the level of its log stays."""
    return ("ufw", "logging", firewall.log_level)


def complaint(firewall: Firewall) -> str:
    """What to say after a command of ufw that has cut its files off."""
    return (
        f"{' and '.join(firewall.cut_off)} could not be written to the end, and no boot could load what is there. "
        f"Make room (df -h /etc/ufw), then have ufw write it again: sudo {' '.join(write_again(firewall))}"
    )


def check_whole(firewall: Firewall) -> Finding | None:
    """A file that is cut off since an earlier command of ours, or of the operator's, is written again."""
    if not firewall.cut_off:
        return None
    return Finding(
        "firewall.cut_off",
        Level.DRIFT,
        f"{' and '.join(firewall.cut_off)} is cut off, as by a full disk: a boot would load none of its rules. "
        "Rules that it has lost are lost: compare with sudo ufw status",
        evidence={"paths": list(firewall.cut_off)},
        fix=(Run(write_again(firewall), "have ufw write its rules again, whole", makes=(FirewallIs(whole=True),)),),
    )
