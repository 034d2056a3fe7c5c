"""Bad circumstances: what is said, what is left alone, and how what can be put right is put right."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.archive import STABLE, export_key, make_key
from tests.lab.operator import Operator, began, changes_of, done, in_words, troubles
from tests.lab.space import Deadline
from tests.lab.unchanged import assert_blocked, left

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]


@pytest.fixture(scope="module")
def exposed(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host that was never set up. Each test takes back what it breaks."""
    server = lab.boot(ServerSpec(layers=(program,)))
    yield Operator(lab, server)
    server.discard()


# ── the call is wrong: exit code 2 ──


@pytest.mark.parametrize("words", ["plan", "apply --answers answers.yaml", "repair", "status", "test", "runs", "log"])
def test_without_root_the_right_command_is_named(exposed: Operator, words: str) -> None:
    result = exposed.server.ssh(f"vllm-https-setup {words}", check=False)
    assert result.code == 2
    assert f"sudo vllm-https-setup {words}" in result.stderr


@pytest.mark.parametrize("words", ["plan", "repair", "test"])
def test_without_saved_answers_it_says_how_to_give_some(exposed: Operator, words: str) -> None:
    result = exposed.say(words)
    assert result.code == 2
    assert "no saved answers" in result.stderr
    document = exposed.ask(words)
    assert (document["exit_code"], document["command"]) == (2, words)
    assert "answers" in document["errors"][0]["message"]


WRONG = b"""\
version: 1
tls: {mode: interal}
firewall:
  safety_seconds: 5
  allow:
    - {port: 99999}
proxi: {http3: true}
"""


def test_every_error_of_an_answers_file_is_told_at_once(exposed: Operator) -> None:
    exposed.server.put("/home/operator/wrong.yaml", WRONG, 0o600, "operator:operator")
    before = exposed.server.snapshot()
    for command in ("plan", "apply"):
        document = exposed.ask(f"{command} --answers wrong.yaml")
        assert document["exit_code"] == 2
        wrong = {error["key"]: error for error in document["errors"]}
        assert set(wrong) == {"tls.mode", "firewall.safety_seconds", "firewall.allow[0].port", "proxi"}
        assert {key: error["line"] for key, error in wrong.items()} == {
            "tls.mode": 2,
            "firewall.safety_seconds": 4,
            "firewall.allow[0].port": 6,
            "proxi": 7,
        }
        assert "internal" in wrong["tls.mode"]["expected"]
        assert "proxy" in json.dumps(wrong["proxi"])
        said = exposed.say(f"{command} --answers wrong.yaml").stderr
        assert all(key in said for key in wrong)
    missing = exposed.say("apply --answers nowhere.yaml")
    assert missing.code == 2
    assert "nowhere.yaml" in missing.stderr
    assert left(exposed, before) == []


@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [(0o666, "operator", "every user can write"), (0o600, "vllm", "belongs to vllm")],
    ids=["writable by others", "of another user"],
)
def test_answers_that_another_may_have_written_are_refused(exposed: Operator, mode: int, owner: str, said: str) -> None:
    exposed.server.put("/home/operator/loose.yaml", b"version: 1\ntls: {mode: internal}\n", mode, owner)
    exposed.server.ssh("sudo true")  # a first login makes what all later ones find
    before = exposed.server.snapshot()
    document = exposed.ask("apply --answers loose.yaml")
    assert document["exit_code"] == 2
    assert said in json.dumps(document["errors"])
    assert left(exposed, before) == []


# ── a check blocks: exit code 3, and nothing is changed ──

LISTENER = "import signal, socket; s = socket.create_server(('0.0.0.0', {port})); signal.pause()"


def take(port: int) -> str:
    """The command that lets another service listen on a port."""
    run = f'systemd-run -q --unit=other-web python3 -c "{LISTENER.format(port=port)}"'
    return f'{run}; until ss -Hltn | grep ":{port} "; do sleep 0.02; done'


def rename(name: str, new: str) -> str:
    """The command that gives vLLM's unit another name."""
    move = f"cd /etc/systemd/system; mv {name}.service {new}.service; systemctl daemon-reload"
    loaded = "until ss -Hltn | grep -q :8000; do sleep 0.05; done"
    return f"systemctl disable -q --now {name}; {move}; systemctl enable -q --now {new}; {loaded}"


RELEASE = "/usr/lib/os-release"
# circumstance -> how it is made, how it is taken back, the finding, and words that its text must have
CIRCUMSTANCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "no GPU": (
        "mv /usr/bin/nvidia-smi /usr/bin/away",
        "mv /usr/bin/away /usr/bin/nvidia-smi",
        "preflight.gpu",
        ("no GPU", "preflight.gpu"),
    ),
    "another system": (
        f"cp -p {RELEASE} /root/kept; sed -i 's/^ID=.*/ID=debian/; s/^PRETTY.*/PRETTY_NAME=\"Debian 12\"/' {RELEASE}",
        f"mv /root/kept {RELEASE}",
        "preflight.os",
        ("Debian 12", "Ubuntu 24.04"),
    ),
    "no key": (
        "cp -p /etc/vllm/vllm.env /root/kept; sed -i /VLLM_API_KEY/d /etc/vllm/vllm.env",
        "mv /root/kept /etc/vllm/vllm.env",
        "preflight.api_key",
        ("VLLM_API_KEY", "/etc/vllm/vllm.env"),
    ),
    "vLLM disabled": (
        "systemctl disable -q vllm",
        "systemctl enable -q vllm",
        "preflight.vllm_unit",
        ("disabled", "sudo systemctl enable vllm.service"),
    ),
    "vLLM under another name": (
        rename("vllm", "llm-api"),
        rename("llm-api", "vllm"),
        "preflight.vllm_unit",
        ("vLLM is started by llm-api.service", "vllm: {unit: llm-api.service}"),
    ),
    "a file of sources that apt can't read": (
        "echo 'deb [signed-by=/x http://x/ noble main' >/etc/apt/sources.list.d/x.list",
        "rm /etc/apt/sources.list.d/x.list",
        "preflight.apt_sources",
        ("x.list, line 1", "sudo mv /etc/apt/sources.list.d/x.list"),
    ),
    "port 80 taken": (
        take(80),
        "systemctl stop other-web",
        "preflight.web_ports",
        ("port 80", "other-web.service"),
    ),
    "port 443 taken": (
        take(443),
        "systemctl stop other-web",
        "preflight.web_ports",
        ("port 443", "other-web.service"),
    ),
    "443 denied by the operator": (
        "ufw deny 443/tcp",
        "ufw delete deny 443/tcp",
        "firewall.denied",
        ("443/tcp", "ufw delete deny 443/tcp"),
    ),
    "a foreign package half installed": (
        "sed -i '/^Package: netbase$/,/^$/s/^Status: .*/Status: install ok half-configured/' /var/lib/dpkg/status",
        "dpkg --configure netbase",
        "preflight.packages",
        ("netbase", "dpkg --configure -a"),
    ),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_check_blocks_and_nothing_is_changed(exposed: Operator, circumstance: str) -> None:
    make, take_back, key, words = CIRCUMSTANCES[circumstance]
    exposed.server.run(["sh", "-c", make])
    try:
        assert_blocked(exposed, key, words)
        before = exposed.server.snapshot()
        assert exposed.say("apply --answers answers.yaml").stdout.count("Nothing was changed.") == 1
        assert exposed.plan()["exit_code"] == 3
        assert left(exposed, before) == []
    finally:
        exposed.server.run(["sh", "-c", take_back])


def test_failed_vllm_blocks_with_its_own_last_words(attend: Attend) -> None:
    operator = attend(ServerSpec())
    operator.server.standin(fail="start")
    operator.server.run(["systemctl", "restart", "vllm"])
    until = Deadline("vLLM to fail", 20)
    while operator.server.run(["systemctl", "show", "-P", "NRestarts", "vllm"]).stdout.strip() == "0":
        until.tick(0.1)
    operator.server.run(["systemctl", "stop", "vllm"])
    operator.server.run(["sh", "-c", "sed -i 's/^Restart=.*/Restart=no/' /etc/systemd/system/vllm.service"])
    operator.server.run(["systemctl", "daemon-reload"])
    operator.server.run(["systemctl", "start", "vllm"])
    while operator.server.run(["systemctl", "is-active", "vllm"], check=False).stdout.strip() != "failed":
        until.tick(0.05)
    assert_blocked(operator, "preflight.vllm_unit", ("has failed", "Free memory on device", "journalctl -u vllm"))


def test_accepted_block_becomes_a_warning(exposed: Operator) -> None:
    exposed.server.run(["mv", "/usr/bin/nvidia-smi", "/usr/bin/away"])
    exposed.answer(preflight={"accept": ["preflight.gpu"]})
    try:
        document = exposed.plan()
    finally:
        exposed.server.run(["mv", "/usr/bin/away", "/usr/bin/nvidia-smi"])
        exposed.answer()
    assert document["exit_code"] == 0
    (finding,) = [one for step in document["steps"] for one in step["findings"] if one["key"] == "preflight.gpu"]
    assert finding["level"] == "warn"


def test_pinned_key_that_is_not_the_repositorys_blocks(exposed: Operator) -> None:
    exposed.answer(caddy={"key_fingerprint": "65760C51EDEA2017CEA2CA15155B6D79CA56EA34"})
    try:
        assert_blocked(exposed, "caddy.keyring", (exposed.lab.key_fingerprint, "65760C51EDEA2017"))
    finally:
        exposed.answer()


def test_repository_that_answers_another_key_is_refused(exposed: Operator, tmp_path: Path) -> None:
    published = exposed.lab.gate.root / STABLE / "gpg.key"
    right = published.read_bytes()
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    stranger = make_key(home, "Stranger <stranger@example.com>", "ed25519")
    published.write_bytes(export_key(home, stranger))
    try:
        assert_blocked(exposed, "caddy.keyring", (stranger, exposed.lab.key_fingerprint))
        for path in (
            "/etc/apt/sources.list.d/caddy-stable.list",
            "/usr/share/keyrings/caddy-stable-archive-keyring.gpg",
        ):
            assert exposed.file(path) is None
    finally:
        published.write_bytes(right)


# ── a step fails, or has to wait ──

SCRIPT = "/opt/vllm/start-vllm.sh"


def main_pid(operator: Operator) -> str:
    return operator.server.run(["systemctl", "show", "-P", "MainPID", "vllm"]).stdout.strip()


def test_script_is_put_back_where_vllm_fails_with_it(operator: Operator) -> None:
    server = operator.server
    before = server.run(["stat", "-c", "%a %U:%G %s", SCRIPT]).stdout, server.get(SCRIPT)
    server.standin(fail="loopback")
    document = operator.apply()
    assert (document["exit_code"], document["failed"]) == (1, True)
    assert (server.run(["stat", "-c", "%a %U:%G %s", SCRIPT]).stdout, server.get(SCRIPT)) == before
    assert {step["id"]: step["status"] for step in document["steps"]} == {
        "preflight": "ok",
        "firewall": "changed",
        "bind": "failed",
        "caddy": "skipped",
        "tls": "skipped",
        "https_test": "skipped",
    }
    (bind,) = [step for step in document["steps"] if step["id"] == "bind"]
    words = in_words(bind["changes"])
    assert words[-2:] == [f"write {SCRIPT}", "run systemctl restart vllm.service"]
    assert any("Engine core initialization failed" in trouble for trouble in troubles(document)), troubles(document)
    until = Deadline("vLLM with its old script", 30)
    while "0.0.0.0:8000" not in server.run(["ss", "-Hltn"]).stdout:
        until.tick(0.1)
    assert operator.lab.outside.tcp(server.address, 8000, 0.5) == "filtered"  # the firewall stays


def test_vllm_that_is_still_loading_stays_bound_to_loopback(operator: Operator) -> None:
    server = operator.server
    server.standin(load_seconds=8)
    operator.answer(vllm={"ready_timeout": 2})
    document = operator.apply()
    assert document["exit_code"] == 1
    assert b"--host 127.0.0.1" in server.get(SCRIPT)
    told = " ".join(troubles(document))
    assert "stays bound to 127.0.0.1 and goes on loading" in told
    assert "not within 2 s" in told
    operator.answer(vllm={"ready_timeout": 60})
    again = operator.apply()
    assert (troubles(again), again["exit_code"]) == ([], 0)
    assert "wait vLLM answers" in " ".join(in_words(changes_of(again)))
    assert "run systemctl restart vllm.service" not in in_words(changes_of(again))


# Holds apt's locks as apt itself does, for so many seconds from when it is told.
HOLDER = """\
import fcntl, sys, time
held = [open(path, "w") for path in sys.argv[2:]]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""
LOCKS = {
    "dpkg": ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"),
    "lists": ("/var/lib/apt/lists/lock",),
}


@pytest.mark.parametrize("which", LOCKS)
def test_lock_of_apt_is_waited_for_and_its_holder_named(operator: Operator, which: str) -> None:
    server = operator.server
    server.put("/root/unattended-upgrade.py", HOLDER.encode())
    argv = [
        "systemd-run",
        "-q",
        "--unit=holder",
        "--service-type=exec",
        "python3",
        "/root/unattended-upgrade.py",
        "600",
    ]
    server.run([*argv, *LOCKS[which]])
    holder = server.run(["systemctl", "show", "-P", "MainPID", "holder"]).stdout.strip()
    with operator.start() as apply:
        said = operator.wait_for(lambda event: "apt is locked by" in event.get("text", ""))
        server.run(["systemctl", "stop", "holder"])
        ended = apply.end()
    assert ended.code == 0
    assert f"(process {holder})" in said["text"]
    assert "python3" in said["text"]
    assert "apt is locked by" in ended.stdout
    assert "apt is locked by" in operator.say("log").stdout


def test_repository_that_signs_with_another_key_is_refused(operator: Operator, tmp_path: Path) -> None:
    """The right key is published, but the index is not signed by it: apt must not take it, nor be left to ask again."""
    index = operator.lab.gate.root / STABLE / "deb/debian/dists/any-version/InRelease"
    right = index.read_bytes()
    lines = right.replace(b"Label: caddy-stable", b"Label: caddy-hijack")
    assert lines != right
    index.write_bytes(lines)
    try:
        document = operator.apply()
    finally:
        index.write_bytes(right)
    assert document["exit_code"] == 1
    update, remove = in_words(done(operator.events()))[-2:]
    assert update.startswith("run apt-get update")
    assert remove == "remove /etc/apt/sources.list.d/caddy-stable.list"
    assert operator.file("/etc/apt/sources.list.d/caddy-stable.list") is None
    assert operator.server.run(["apt-get", "update", "-q"]).code == 0, "the operator's own updates go on"
    assert operator.file("/usr/bin/caddy") is None
    assert any("the API is local only" in warning for warning in document["warnings"])
    after = operator.apply()
    assert (troubles(after), after["exit_code"], after["continued"]) == ([], 0, None)


def test_caddyfile_of_others_blocks_before_anything_is_changed(operator: Operator) -> None:
    operator.server.put("/etc/caddy/Caddyfile", b"example.com {\n\treverse_proxy 127.0.0.1:3000\n}\n")
    assert_blocked(operator, "tls.caddyfile", ("sites of others", "existing_config"))


def test_later_failure_says_first_that_the_api_is_local_only(operator: Operator) -> None:
    """Caddy is refused its port by a program that takes it after the checks: TLS fails, with vLLM bound already."""
    with operator.start("apply --answers answers.yaml --json") as apply:
        operator.wait_for(began("apt-get update"))
        operator.server.run(["systemd-run", "-q", "--unit=other", "python3", "-c", LISTENER.format(port=443)])
        ended = apply.end()
    document = json.loads(ended.stdout)
    assert document["exit_code"] == 1
    assert document["warnings"][0].startswith("the API is local only now: vLLM is bound to 127.0.0.1")
    assert "rollback" in document["warnings"][0]
    operator.server.run(["systemctl", "stop", "other"])
    after = operator.apply()
    assert (troubles(after), after["exit_code"]) == ([], 0)
