"""Whatever a server that was set up drifts to: `status` names it, `repair` puts it right by the smallest change, or
says what a person has to do. The catalogue is in tests/lab/drifts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Server, ServerSpec
from tests.lab.certificates import BAD, GOOD
from tests.lab.drifts import CUSTOM, INTERNAL, Drift
from tests.lab.drifts.drift import CADDYFILE, INSTALL_CADDY
from tests.lab.operator import RUNS, Document, Operator, changes_of, done, findings, in_words, troubles
from tests.lab.site import CHAIN, DOMAIN, KEY, Site
from tests.lab.spec import File
from tests.lab.unchanged import left
from wizard.internal import CLIENTS_NEED_IT

pytestmark = pytest.mark.lab

THEIRS = b'http://blog.lan:8081 {\n\trespond "blog"\n}\n'
# The undo of the firewall's changes.
SAFETY = ("vllm-https-setup-revert", "vllm-https-setup/firewall", "SSH proved")
LEFT_BY_REQUESTS = "/var/log/caddy"


@pytest.fixture(scope="module")
def kept(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host in mode custom, whose Caddyfile of others imports ours."""
    spec = ServerSpec(layers=(program,), guide_packages=True, files={"/etc/caddy/Caddyfile": File(THEIRS)})
    server = lab.boot(spec)
    operator = Operator(lab, server)
    site = Site(lab, lab.acme(), operator)
    site.trust(lab.certificates.root)
    for name, make in {"good": GOOD["p256"], "expired": BAD["expired"], "other_name": BAD["other_name"]}.items():
        chain, key = make(lab.certificates, DOMAIN)
        server.put(f"/root/pairs/{name}/chain.pem", chain)
        server.put(f"/root/pairs/{name}/key.pem", key, 0o600)
    leaf = lab.certificates.issue(DOMAIN)
    site.answer_custom(leaf.chain, leaf.key)
    tls = {"mode": "custom", "domain": DOMAIN, "certificate": CHAIN, "private_key": KEY}
    operator.answer(tls=tls, caddy={"existing_config": "keep"})
    document = operator.apply()
    assert document["exit_code"] == 0, findings(document, "blocked")
    yield operator
    server.discard()


@pytest.mark.parametrize("drift", CUSTOM, ids=lambda one: one.name)
def test_drift_of_an_imported_site_is_named_and_repaired(kept: Operator, drift: Drift) -> None:
    assert_repaired(kept, drift)


@pytest.mark.parametrize("drift", INTERNAL, ids=lambda one: one.name)
def test_drift_is_named_and_repaired(secured: Operator, drift: Drift) -> None:
    assert_repaired(secured, drift)


def assert_repaired(operator: Operator, drift: Drift) -> None:
    server = operator.server
    server.run(["sh", "-c", drift.make])
    status = assert_named(operator, drift)
    running = processes(server)
    document = ask(operator, drift, "repair")
    if drift.stops:
        assert_stops(drift, document)
        server.run(["sh", "-c", drift.by_hand])
        running = processes(server)
        document = ask(operator, drift, "repair")
    else:
        did, shown = (
            known_before(drift, changes) for changes in (done(operator.events(document["run"])), changes_of(status))
        )
        assert did == shown, "what status shows is what repair does"
    said = [f"warning: {CLIENTS_NEED_IT}"] if drift.new_root else []
    assert (troubles(document), document["exit_code"]) == (said, 0)
    assert own_changes(document) == drift.repaired
    impacts = {change["impact"] for change in changes_of(document)}
    for unit, pid in processes(server).items():
        restarted = {f"restart {unit}"} & impacts or running[unit] == "0"
        installed = unit == "caddy" and any("apt-get" in one for one in drift.repaired)
        assert restarted or installed or pid == running[unit], f"{unit} was restarted"
    if drift.kept:
        diff = "".join(change.get("diff", "") for change in changes_of(status))
        backups = server.run(["sh", "-c", f"cat {RUNS}/{document['run']}/backup/*"]).stdout
        assert (drift.kept in diff, drift.kept in backups) == (True, True)
    if drift.cleanup:
        server.run(["sh", "-c", drift.cleanup])


def known_before(drift: Drift, changes: list[Document]) -> list[Document]:
    """The changes, without the diff of a Caddyfile that the package brings in the same run: its text is not known."""
    if INSTALL_CADDY not in drift.repaired:
        return changes
    return [{**change, "diff": ""} if change.get("path") == CADDYFILE else change for change in changes]


def assert_named(operator: Operator, drift: Drift) -> Document:
    """`status` names the drift, with exit code 1 (2 where it can't read the saved answers), and changes nothing."""
    if not drift.console:
        operator.server.ssh("sudo true")  # a login makes what all later ones find
    before = operator.server.snapshot()
    status = ask(operator, drift, "status")
    assert [line for line in left(operator, before) if not line.startswith(LEFT_BY_REQUESTS)] == []
    found = [(one["key"], one["level"]) for step in status["steps"] for one in step["findings"]]
    found += [(error["key"], "error") for error in status["errors"]]
    found += [("", "error")] if any("never set up" in warning for warning in status["warnings"]) else []
    assert (drift.key, drift.level) in found, troubles(status)
    assert status["exit_code"] == (2 if status["errors"] else 1)
    return status


def assert_stops(drift: Drift, document: Document) -> None:
    """The repair says what a person has to know, and where a check blocks it, it has changed nothing."""
    said = json.dumps(document, ensure_ascii=False)
    missing = [word for word in drift.stops if json.dumps(word, ensure_ascii=False)[1:-1] not in said]
    assert missing == [], troubles(document)
    assert document["exit_code"] == drift.code
    if drift.code in (2, 3):
        assert (document["changed"], document["run"]) == (False, None)


def ask(operator: Operator, drift: Drift, words: str) -> Document:
    """As the operator types it over SSH; or as root at the console."""
    began = time.monotonic()
    if not drift.console:
        document = operator.ask(words)
    else:
        document = json.loads(operator.server.run(["vllm-https-setup", words, "--json"], check=False).stdout)
    print(f"{words}: {time.monotonic() - began:.2f} s, exit code {document['exit_code']}")
    return document


def own_changes(document: Document) -> tuple[str, ...]:
    words = in_words(changes_of(document))
    return tuple(one for one in words if not any(part in one for part in SAFETY))


def processes(server: Server) -> dict[str, str]:
    """The main processes of both services; 0 where none runs."""
    shown = server.run(["systemctl", "show", "-P", "MainPID", "vllm", "caddy"]).stdout.split()
    return dict(zip(("vllm", "caddy"), shown, strict=True))
