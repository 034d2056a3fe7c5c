"""Nothing was changed: how a test shows it of a host, and of a command that a check has blocked."""

from tests.lab.operator import ANSWERS, Operator, findings, troubles
from tests.lab.snapshot import Snapshot

# What sshd and sudo write at any login, whatever is typed there.
LEFT_BY_LOGINS = ("/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp", "/var/log/auth.log")
# What a test's own answers file leaves.
LEFT_BY_TESTS = ("/home/operator: mtime", f"{ANSWERS}:")


def left(operator: Operator, before: Snapshot) -> list[str]:
    """What differs from the state before, but for what the test's own logins and files leave."""
    differences = before.differences(operator.server.snapshot())
    return [line for line in differences if not line.startswith((*LEFT_BY_LOGINS, *LEFT_BY_TESTS))]


def assert_blocked(operator: Operator, key: str, words: tuple[str, ...], *, too: tuple[str, ...] = ()) -> None:
    """Apply ends with 3, says why and what helps (and that these other keys block, too), and leaves all as it was."""
    operator.server.ssh("sudo true")  # a first login makes what all later ones find
    before = operator.server.snapshot()
    document = operator.apply()
    assert document["exit_code"] == 3, troubles(document)
    blocking = findings(document, "blocked")
    assert sorted(blocking) == sorted((key, *too))
    assert [word for word in words if word not in blocking[key]] == [], blocking[key]
    assert (document["changed"], document["run"]) == (False, None)
    assert left(operator, before) == []
