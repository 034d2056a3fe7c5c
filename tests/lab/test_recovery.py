"""`backup` on one server, `restore` on a fresh other one that takes its place: clients need to change nothing."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import CANARY, Acme, Lab, ServerSpec
from tests.lab.killing import kill_at
from tests.lab.operator import Operator, began, changes_of, in_words, rows, troubles
from tests.lab.site import Site, proof
from tests.lab.unchanged import left
from wizard.internal import CLIENTS_NEED_IT

pytestmark = pytest.mark.lab

FILE = "/root/llm.tar.gz"
ROOT = "/etc/vllm-https-setup/root.crt"
PENDING = "/var/lib/vllm-https-setup/restore.tar.gz"
ADDITION = "/etc/caddy/vllm-https.d/own.caddy"
AUTHORITY = "/var/lib/caddy/.local/share/caddy/pki/authorities/local"

Replace = Callable[[Site], Site]


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]) -> Iterator[Site]:
    found = Site(lab, acme, attend(ServerSpec(guide_packages=True)))
    found.name()
    yield found


@pytest.fixture
def fresh(lab: Lab, acme: Acme, program: Path) -> Iterator[Replace]:
    """Ends a server, and boots another one with its name and addresses, on which nothing of ours is."""
    booted = []

    def one(of: Site) -> Site:
        of.server.kill(boot=False)
        of.server.discard()
        booted.append(lab.boot(replace(of.server.spec, layers=(program,)), instead_of=of.server))
        return Site(lab, acme, Operator(lab, booted[-1]))

    yield one
    for server in booted:
        server.discard()


def back_up(site: Site) -> bytes:
    """The archive, as the operator makes it and takes it along."""
    document = site.operator.ask(f"backup {FILE}")
    assert (document["command"], document["exit_code"], document["changed"]) == ("backup", 0, False)
    assert any("holds private keys, and is not encrypted" in one for one in document["warnings"])
    assert site.server.run(["stat", "-c", "%a %U:%G", FILE]).stdout == "600 root:root\n"
    return site.server.get(FILE)


def test_fresh_server_takes_the_place_of_the_old_one_and_is_trusted_by_its_root(site: Site, fresh: Replace) -> None:
    operator, server = site.operator, site.server
    server.put(ADDITION, b"header X-Own yes\n")
    none = operator.say(f"backup {FILE}")
    assert (none.code, "never set up" in none.stderr) == (2, True)
    assert operator.apply()["exit_code"] == 0
    root = server.get(ROOT)

    server.ssh("sudo true")
    before = server.snapshot()
    in_tmp, other = operator.say("backup /tmp/llm.tar.gz"), operator.say("backup /etc/hosts")
    assert (in_tmp.code, "every user" in in_tmp.stderr, other.code) == (2, True, 2)
    assert "no archive of this program" in other.stderr
    assert left(operator, before) == []
    raw = back_up(site)
    assert [line for line in left(operator, before) if not line.startswith("/root")] == []
    assert CANARY.encode() not in gzip.decompress(raw), "the API key stays in vLLM's env file"
    piped = server.ssh("sudo vllm-https-setup backup - | sudo tar -tz").stdout.split()
    assert {f"{AUTHORITY}/root.key".lstrip("/"), "manifest.json", ADDITION.lstrip("/")} <= set(piped)
    assert not any("vllm.env" in name for name in piped)

    new = fresh(site)
    operator, server = new.operator, new.server
    assert server.get("/etc/hostname") and not (server.root / "etc/caddy").exists()
    server.put(FILE, raw, 0o600)
    server.put("/root/damaged", raw[:-200], 0o600)
    server.put("/home/operator/others", raw, 0o666, "operator:operator")
    for name, words in {"/root/damaged": "its end is missing", "others": "every user can write"}.items():
        refused = operator.say(f"restore {name} --yes")
        assert (refused.code, words in refused.stderr) == (2, True), refused
    refused = operator.say(f"restore {FILE}")
    assert (refused.code, "--yes" in refused.stderr) == (2, True)
    assert not (server.root / PENDING.lstrip("/")).exists()

    killed = kill_at(operator, began(f"write {AUTHORITY}/root.crt"), command=f"restore {FILE} --yes")
    assert (server.root / PENDING.lstrip("/")).exists()
    planned = operator.ask("plan")
    document = operator.ask("repair")
    assert document["exit_code"] == 0, troubles(document)
    assert document["continued"] == killed
    assert f"write {AUTHORITY}/root.crt" in in_words(changes_of(planned))
    assert in_words(changes_of(planned)) == in_words(changes_of(document))
    assert CLIENTS_NEED_IT not in document["warnings"]
    assert set(rows(document).values()) == {True}
    assert server.get(ROOT) == root
    assert new.seen_from_outside("internal") == proof("internal")
    place = new.lab.outside.key.with_name("root-of-an-old-client.pem")
    place.write_bytes(root)
    headers = ["curl", "-s", "-D", "-", "-o", "/dev/null", "--cacert", str(place)]
    assert "x-own: yes" in new.lab.outside.run([*headers, f"https://{server.address}/v1/models"]).stdout.lower()
    assert not (server.root / PENDING.lstrip("/")).exists(), "keys lie about no longer than they are needed"
    again = operator.ask(f"restore {FILE} --yes")
    assert (again["exit_code"], again["changed"]) == (0, False), troubles(again)
    ended = operator.ask("uninstall --yes --keep-bind")
    assert ended["exit_code"] == 0, troubles(ended)
    assert server.run(["sh", "-c", f"ls {AUTHORITY}"]).stdout.split()[-2:] == ["root.crt", "root.key"]


@pytest.mark.parametrize("mode", ["acme", "custom"])
def test_fresh_server_goes_on_with_the_certificate_of_the_old_one(site: Site, fresh: Replace, mode: str) -> None:
    """Also when its certificate's own files are gone with the old server; the CA is asked nothing."""
    site.answer_mode(mode)
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    serial, orders = site.serial(), site.acme.orders
    raw = back_up(site)

    new = fresh(site)
    new.server.put(FILE, raw, 0o600)
    if mode == "custom":
        new.trust(new.lab.certificates.root)
    document = new.operator.ask(f"restore {FILE} --yes")
    assert document["exit_code"] == 0, troubles(document)
    assert (new.serial(), new.acme.orders) == (serial, orders)
    assert new.seen_from_outside(mode) == proof(mode)
    assert "PRIVATE KEY" not in json.dumps(document)
    again = new.operator.ask("repair")
    assert (again["exit_code"], again["changed"]) == (0, False), troubles(again)
    pids = new.server.run(["systemctl", "show", "-P", "MainPID", "caddy"]).stdout
    new.server.reboot()
    assert new.server.run(["systemctl", "show", "-P", "MainPID", "caddy"]).stdout != pids
    assert (new.serial(), new.acme.orders) == (serial, orders)
