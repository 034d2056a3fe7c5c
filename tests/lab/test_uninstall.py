"""`uninstall` brings back what was before the first run, and names what it leaves; nobody is locked out, or let in."""

import re
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec
from tests.lab.operator import Operator, began, troubles
from tests.lab.site import DOMAIN, Site
from tests.lab.snapshot import Snapshot
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
SCRIPT, CADDYFILE = "/opt/vllm/start-vllm.sh", "/etc/caddy/Caddyfile"
OURS = ("/etc/vllm-https-setup", "/var/lib/vllm-https-setup", "/var/log/vllm-https-setup", "/run/vllm-https-setup")
ROOT = "/etc/vllm-https-setup/root.crt"
EXPOSES = "this opens vLLM to the network again"

# All that may differ afterwards, each with its reason.
LEFT_BY_APT = r"/var/(cache|lib)/(apt|dpkg|debconf)/|/var/log/(apt/|dpkg\.log|alternatives\.log)"  # caches, lists, logs
LEFT_BY_A_PACKAGE = (
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?:|/var/lib/systemd/|/var/tmp/"  # the system user caddy
)
LEFT_BY_UFW = r"/etc/ufw/(ufw\.conf|user6?\.rules): appeared$"  # the same rules as ufw writes them: see rules_of
LEFT_BY_SYSTEMD = r"/etc/systemd/system/timers\.target\.wants"  # an empty directory, which `systemctl disable` removes
LEFT_BY_LOGINS = r"/var/log/(lastlog|wtmp|btmp|auth\.log)|/home/operator"
EXCEPTIONS = re.compile("|".join((LEFT_BY_APT, LEFT_BY_A_PACKAGE, LEFT_BY_UFW, LEFT_BY_SYSTEMD, LEFT_BY_LOGINS)))


def left(before: Snapshot, server: Server) -> list[str]:
    """What differs from the state before, without the exceptions: files, their modes and owners, units and links."""
    after = server.snapshot()
    lines = [line for line in before.differences(after) if not line.startswith(("ruleset:", "links:"))]
    times = re.compile(r": (mtime_ns|mtime_ns, overlay) changed$")
    directories = {path for path, entry in after.files.items() if entry.kind == "directory"}
    return [
        line
        for line in lines
        if not EXCEPTIONS.search(line) and not times.search(line) and line.removesuffix(": appeared") not in directories
    ]


def rules_of(server: Server) -> dict[str, object]:
    """The firewall as it decides. The empty chains that ufw leaves where it was switched off decide nothing."""
    saved = [server.run([f"{tool}-save"]).stdout.splitlines() for tool in ("iptables", "ip6tables")]
    return {
        "status": server.run(["ufw", "status", "verbose"]).stdout,
        "added": server.run(["ufw", "show", "added"]).stdout,
        "rules": [line for lines in saved for line in lines if line.startswith("-A") and " -j ufw" not in line],
        "policies": [line for lines in saved for line in lines if " DROP [" in line],
    }


def sums(server: Server) -> str:
    """Of what is written again where it was: ufw's files, and the launch script with its mode and owner."""
    files = ("/etc/ufw/ufw.conf", "/etc/default/ufw", SCRIPT)
    return server.run(["sh", "-c", 'sha256sum "$@"; stat -c "%n %a %U:%G" "$@"', "sh", *files]).stdout


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Attend) -> Iterator[Site]:
    yield Site(lab, acme, attend(ServerSpec()))


def test_after_several_runs_in_different_modes_all_is_as_it_was_before_the_first(site: Site) -> None:
    operator, server = site.operator, site.server
    site.trust(site.lab.certificates.root)
    leaf = site.lab.certificates.issue(DOMAIN)
    server.run(["mkdir", "-p", "/etc/ssl/llm"])
    site.answer_custom(leaf.chain, leaf.key)
    server.ssh("sudo true")
    before, rules, hashes = server.snapshot(), rules_of(server), sums(server)

    assert operator.apply()["exit_code"] == 0
    operator.answer(tls={"mode": "internal"})
    assert operator.apply()["exit_code"] == 0
    site.answer_custom(leaf.chain, leaf.key)
    assert operator.apply()["exit_code"] == 0

    planned = operator.say("uninstall --plan --purge")
    assert planned.code == 0
    assert planned.stdout.startswith(f"! {EXPOSES}")
    assert "ufw delete allow 443/tcp" in planned.stdout and "systemctl restart vllm.service" in planned.stdout
    refused = operator.say("uninstall --yes --purge")
    assert (refused.code, refused.stderr.startswith(EXPOSES)) == (2, True)
    assert server.get(SCRIPT) and b"127.0.0.1" in server.get(SCRIPT)

    document = operator.ask("uninstall --yes --expose --purge")
    assert (document["exit_code"], document["changed"], document["warnings"]) == (0, True, [])
    assert left(before, server) == []
    assert rules_of(server) == rules
    assert sums(server) == hashes
    assert server.run(["sh", "-c", "dpkg -l caddy | grep -c ^[ir]; true"]).stdout == "0\n"
    assert site.lab.outside.tcp(server.address, 8000) == "open", "as it was before"
    again = operator.ask("uninstall --yes")
    assert (again["exit_code"], again["changed"]) == (0, False)
    assert operator.say("status").code == 1


def test_without_purge_the_ca_is_kept_and_clients_need_nothing_new_afterwards(operator: Operator) -> None:
    """A run that is killed within uninstall is one that the next completes; then the server is set up again."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    root = server.get(ROOT)
    with operator.start("uninstall --yes --expose") as typed:
        operator.wait_for(began("systemctl restart vllm"))
        operator.kill_run()
        assert typed.end().code == 1
    operator.wait_until_idle()
    assert operator.server.ssh("echo in").stdout == "in\n"
    document = operator.ask("uninstall --yes --expose")
    assert (document["exit_code"], troubles(document)) == (0, [])
    listeners = server.run(["ss", "-Hltn"]).stdout
    assert "0.0.0.0:8000" in listeners, "the restart that was cut off is done"
    assert not {443, 2019} & server.listening()
    for path in OURS:
        assert not (server.root / path.lstrip("/")).exists()
    places = "/etc/systemd/system /etc/apt/sources.list.d /usr/share/keyrings"
    assert server.run(["sh", "-c", f"ls {places} | grep -e vllm-https -e caddy-stable; true"]).stdout == ""

    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert server.get(ROOT) == root


THEIRS = "{{\n\tdefault_sni {0}\n\tfallback_sni {0}\n}}\n:8080 {{\n\trespond theirs\n}}\n"
MORE = ":8081 {\n\trespond more\n}\n"


def test_edited_files_stay_and_caddy_goes_on_with_the_sites_of_others(operator: Operator) -> None:
    """Caddy was brought by a run; since then its Caddyfile has become somebody's own, and imports our site."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    theirs = THEIRS.format(server.address)
    server.put(CADDYFILE, theirs.encode())
    operator.answer(caddy={"existing_config": "keep"})
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    server.put(CADDYFILE, server.get(CADDYFILE) + MORE.encode())
    server.put("/etc/caddy/vllm-https.d/own.caddy", b"# the operator's\n")
    script = server.get(SCRIPT) + b"# edited since\n"
    server.put(SCRIPT, script, 0o755, "vllm:vllm")
    server.run(["ufw", "allow", "9100/tcp", "comment", "node exporter"])

    document = operator.ask("uninstall --yes --purge")
    assert document["exit_code"] == 0, troubles(document)
    words = " | ".join(document["warnings"])
    assert f"{SCRIPT} was edited since: it stays as it is" in words
    assert "Caddy stays: /etc/caddy/Caddyfile has sites of others" in words
    assert server.get(SCRIPT) == script
    assert server.get(CADDYFILE).decode().split() == (theirs + MORE).split()
    assert server.get("/etc/caddy/vllm-https.d/own.caddy")
    for port in ("8080", "8081"):
        answer = server.run(["curl", "-s", f"http://127.0.0.1:{port}/"]).stdout
        assert answer in ("theirs", "more")
    assert 443 not in server.listening()
    added = server.run(["ufw", "show", "added"]).stdout
    assert "9100/tcp" in added and "443/tcp" not in added
    assert "127.0.0.1:8000" in server.run(["ss", "-Hltn"]).stdout


def test_firewall_that_was_on_stays_on_and_the_only_way_in_stays_open(attend: Attend) -> None:
    """ufw was on, and let SSH in by its default, which the operator has closed since: our rule is the way in now."""
    operator = attend(ServerSpec(ufw_rules=("allow 9100/tcp",), ufw_enabled=True))
    server = operator.server
    server.run(["ufw", "default", "allow", "incoming"])
    assert operator.apply()["exit_code"] == 0
    document = operator.ask("uninstall --yes --keep-bind")
    assert document["exit_code"] == 0, troubles(document)
    assert any("vLLM bound to 127.0.0.1" in warning for warning in document["warnings"])
    status = server.run(["ufw", "status", "verbose"]).stdout
    assert "Status: active" in status and "allow (incoming)" in status
    assert "9100/tcp" in status and "22/tcp" not in status
    assert server.ssh("echo in").stdout == "in\n"
    assert site_is_closed(operator)


def test_uninstall_goes_on_when_its_line_is_cut(operator: Operator) -> None:
    """All that is ours goes, its own record too: what is left to see is that nothing is left."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    server.standin(load_seconds=1.5)
    with operator.start("uninstall --yes --expose") as typed:
        operator.wait_for(began("systemctl restart vllm"))
        typed.cut()
    until = Deadline("the end of the uninstall", 60)
    while (server.root / OURS[1].lstrip("/")).exists():
        until.tick(0.1)
    assert [path for path in OURS if (server.root / path.lstrip("/")).exists()] == []
    assert "Status: inactive" in server.run(["ufw", "status"]).stdout
    assert not {443, 2019} & server.listening()
    again = operator.ask("uninstall --yes")
    assert (again["exit_code"], again["changed"]) == (0, False)


def test_uninstall_whose_firewall_cannot_be_proved_puts_it_back_and_goes_no_further(attend: Attend) -> None:
    """ufw was on before: without the proof its rules of before come back, and what else is ours stays as it is."""
    operator = attend(ServerSpec(ufw_rules=("allow 22/tcp",), ufw_enabled=True))
    server = operator.server
    operator.answer(firewall={"safety_seconds": 10})
    assert operator.apply()["exit_code"] == 0
    rules = server.run(["ufw", "show", "added"]).stdout
    server.run(["iptables", "-I", "INPUT", "1", "-s", "192.0.2.0/30", "-j", "DROP"])
    document = operator.ask("uninstall --yes --expose")
    assert document["exit_code"] == 1, troubles(document)
    assert any("put back" in trouble for trouble in troubles(document))
    assert server.run(["ufw", "show", "added"]).stdout == rules
    assert server.ssh("echo in").stdout == "in\n"
    assert operator.file("/var/lib/vllm-https-setup/firewall/unconfirmed") is None
    server.run(["iptables", "-D", "INPUT", "-s", "192.0.2.0/30", "-j", "DROP"])
    document = operator.ask("uninstall --yes --expose")
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert "443/tcp" not in server.run(["ufw", "show", "added"]).stdout


def site_is_closed(operator: Operator) -> bool:
    """vLLM can't be reached from another machine."""
    return operator.lab.outside.tcp(operator.server.address, 8000) != "open"
