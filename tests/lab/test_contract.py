"""The contract's bad circumstances that test_blocked.py, test_modes.py and test_killed.py leave: with exit code, text,
and nothing changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.archive import STABLE, export_key, make_key
from tests.lab.machine import run
from tests.lab.operator import Operator, began, changes_of, findings, in_words, troubles
from tests.lab.space import Deadline
from tests.lab.unchanged import assert_blocked, left

pytestmark = pytest.mark.lab

UNIT = "/etc/systemd/system/vllm.service"
KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
LIST = "/etc/apt/sources.list.d/caddy-stable.list"
LISTENER = "import signal, socket; s = socket.create_server(('0.0.0.0', 9100)); signal.pause()"


@pytest.fixture(scope="module")
def untouched(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host on which no run ever changes anything. Each test takes back what it breaks."""
    server = lab.boot(ServerSpec(layers=(program,)))
    operator = Operator(lab, server)
    server.ssh("sudo true")
    yield operator
    server.discard()


# circumstance -> how it is made, how it is taken back, the finding, and words that its text must have
CIRCUMSTANCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "no vllm.service": (
        f"systemctl disable -q --now vllm; mv {UNIT} /root/vllm.service; systemctl daemon-reload",
        f"mv /root/vllm.service {UNIT}; systemctl daemon-reload; systemctl enable -q --now vllm",
        "preflight.vllm_unit",
        ("there is no vllm.service", "vllm.unit", "systemctl list-units"),
    ),
    "a rule of the operator's before ours": (
        "ufw deny 443; ufw allow 443/tcp",
        "ufw delete allow 443/tcp; ufw delete deny 443",
        "firewall.denied",
        ("never meets 443/tcp", "“deny 443” comes before it", "sudo ufw delete deny 443"),
    ),
    "SSH denied by the operator": (
        "ufw reject 22/tcp",
        "ufw delete reject 22/tcp",
        "firewall.denied",
        ("denies 22/tcp", "sudo ufw delete reject 22/tcp"),
    ),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_check_blocks_and_nothing_is_changed(untouched: Operator, circumstance: str) -> None:
    make, take_back, key, words = CIRCUMSTANCES[circumstance]
    untouched.server.run(["sh", "-c", make])
    try:
        assert_blocked(untouched, key, words)
    finally:
        untouched.server.run(["sh", "-c", take_back])


def test_incoming_that_is_allowed_by_default_is_drift_and_says_whom_it_cuts_off(untouched: Operator) -> None:
    server = untouched.server
    server.run(["systemd-run", "-q", "--unit=exporter", "python3", "-c", LISTENER])
    until = Deadline("the listener", 10)
    while 9100 not in server.listening():
        until.tick(0.05)
    server.run(["sh", "-c", "ufw default allow incoming; ufw allow 22/tcp; ufw --force enable"])
    try:
        before = server.snapshot()
        document = untouched.plan()
        assert document["exit_code"] == 0
        assert "every port that listens is open" in findings(document, "drift")["firewall.incoming"]
        cut_off = findings(document, "warn")["firewall.cuts_off"]
        assert "9100/tcp (python3) will no longer be reachable" in cut_off and "{port: 9100}" in cut_off
        assert "run ufw default deny incoming" in in_words(changes_of(document))
        assert left(untouched, before) == []
    finally:
        back = "ufw --force disable; ufw delete allow 22/tcp; ufw default deny incoming; systemctl stop exporter"
        server.run(["sh", "-c", back])


@pytest.fixture
def published(lab: Lab) -> Iterator[Path]:
    """The key that the repository hands out, put back after."""
    place = lab.gate.root / STABLE / "gpg.key"
    right = place.read_bytes()
    yield place
    place.write_bytes(right)


def test_expired_key_is_fetched_again_and_refused_where_that_has_expired_too(
    untouched: Operator, published: Path, tmp_path: Path
) -> None:
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    pinned = make_key(home, "Signer <signer@example.com>", "ed25519", expires="seconds=2")
    untouched.answer(caddy={"key_fingerprint": pinned})
    expired = export_key(home, pinned)
    published.write_bytes(expired)
    server = untouched.server
    server.run(["sleep", "2.1"])
    assert_blocked(untouched, "caddy.keyring", ("it has expired or was revoked",))
    assert untouched.file(KEYRING) is None and untouched.file(LIST) is None
    # The same key, to which its owner has given a new signing key: what is here has expired, what is there has not.
    server.put(KEYRING, export_key(home, pinned, armor=False))
    gpg = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
    run([*gpg, "--quick-add-key", pinned, "ed25519", "sign", "never"])
    published.write_bytes(export_key(home, pinned))
    try:
        document = untouched.plan()
        assert document["exit_code"] == 0, troubles(document)
        assert "it has expired or was revoked" in findings(document, "drift")["caddy.keyring"]
        assert f"write {KEYRING}" in in_words(changes_of(document))
    finally:
        server.run(["rm", KEYRING])
        untouched.answer()


# Holds dpkg's lock as apt does; so do the runs of unattended-upgrades after a boot.
HOLDER = """\
import fcntl, time
held = [open(path, "w") for path in ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
time.sleep(600)
"""


def test_lock_of_apt_that_stays_ends_the_run_with_nothing_half_done(operator: Operator) -> None:
    """The program's ten minutes are three seconds here."""
    server = operator.server
    (source,) = server.run(["find", "/opt", "/usr/local", "-path", "*/wizard/apt.py"]).stdout.split()
    server.run(["sed", "-i", "s/^LOCK_WAIT_S = 600$/LOCK_WAIT_S = 3/", source])
    # It is compiled once for all, whatever its source says later.
    server.run(["find", source.removesuffix("apt.py"), "-name", "apt.*.pyc", "-delete"])
    server.put("/root/unattended-upgrade.py", HOLDER.encode())
    server.run(["systemd-run", "-q", "--unit=holder", "python3", "/root/unattended-upgrade.py"])
    holder = server.run(["systemctl", "show", "-P", "MainPID", "holder"]).stdout.strip()
    with operator.start() as apply:
        operator.wait_for(began("apt-get install"))
        ended = apply.end()
    assert ended.code == 1
    assert f"apt is locked by python3 (process {holder}): waiting for it" in ended.stdout
    assert "the API is local only" in ended.stdout
    assert operator.file("/usr/bin/caddy") is None
    assert server.run(["dpkg", "--audit"]).stdout == ""
    server.run(["systemctl", "stop", "holder"])
    after = operator.apply()
    assert (troubles(after), after["exit_code"]) == ([], 0)
