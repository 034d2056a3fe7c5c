"""Servers whose firewall and apt an operator has made: theirs stays, and what is in the way is named with its cure."""

from collections.abc import Callable

import pytest

from tests.lab import Server, ServerSpec
from tests.lab.operator import Operator, changes_of, findings, rows, troubles
from tests.lab.unchanged import assert_blocked
from wizard.caddy_source import KEYRING, LIST

pytestmark = pytest.mark.lab

PROFILE = b"[Own Web]\ntitle=Own Web\ndescription=of this server\nports=443,8443/tcp\n"
OWN_LINE = b"-A ufw-before-input -p tcp --dport 9999 -j DROP\n"
# As ufw writes them: two hundred commands of it would take half a minute.
RULE = (
    "### tuple ### deny tcp {port} 0.0.0.0/0 any 198.51.100.{number} in\n"
    "-A ufw-user-input -p tcp --dport {port} -s 198.51.100.{number} -j DROP\n\n"
)
MANY = "".join(RULE.format(number=number, port=5000 + number) for number in range(200))


def added(server: Server) -> list[str]:
    return server.run(["ufw", "show", "added"]).stdout.splitlines()[1:]


def test_own_rules_comments_and_before_rules_stay_and_only_what_lacks_is_added(
    attend: Callable[[ServerSpec], Operator],
) -> None:
    """A limit on SSH, an application's rule, 200 others, a line of before.rules; IPv6 was switched on later."""
    operator = attend(ServerSpec())
    server = operator.server
    server.put("/etc/ufw/applications.d/own", PROFILE)
    server.run(["sed", "-i", "s/^IPV6=.*/IPV6=no/", "/etc/default/ufw"])
    server.run(["ufw", "limit", "22/tcp", "comment", "administrators"])
    server.run(["sed", "-i", "s/^IPV6=.*/IPV6=yes/", "/etc/default/ufw"])
    server.run(["ufw", "allow", "Own Web", "comment", "the site"])
    rules = server.get("/etc/ufw/user.rules").decode()
    server.put("/etc/ufw/user.rules", rules.replace("### END RULES ###", f"{MANY}### END RULES ###").encode(), 0o640)
    before_rules = server.get("/etc/ufw/before.rules").replace(b"# allow all on loopback", OWN_LINE, 1)
    server.put("/etc/ufw/before.rules", before_rules, 0o640)
    before = added(server)
    assert len(before) > 200
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    after = added(server)
    assert [rule for rule in after if rule not in before] == ["ufw limit 22/tcp comment 'SSH'"], "for IPv6 alone"
    assert [rule for rule in before if rule not in after] == []
    assert server.get("/etc/ufw/before.rules") == before_rules
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
    assert operator.ask("rollback --yes --expose")["exit_code"] == 0
    assert added(server) == before


def test_rule_that_another_shadows_blocks_and_its_remedy_helps(attend: Callable[[ServerSpec], Operator]) -> None:
    rules = ("deny in on host0 to any port 443", "allow 443/tcp", "allow 22/tcp")
    operator = attend(ServerSpec(ufw_rules=rules, ufw_enabled=True))
    words = ("“allow 443/tcp” never meets", "sudo ufw delete deny in on host0 to any port 443;")
    assert_blocked(operator, "firewall.denied", words)
    operator.server.run(["ufw", "delete", "deny", "in", "on", "host0", "to", "any", "port", "443"])
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)


def test_line_of_before_rules_that_drops_https_is_shown(attend: Callable[[ServerSpec], Operator]) -> None:
    operator = attend(ServerSpec(ufw_rules=("allow 443/tcp", "allow 22/tcp"), ufw_enabled=True))
    text = operator.server.get("/etc/ufw/before.rules")
    own = OWN_LINE.replace(b"9999", b"443")
    operator.server.put("/etc/ufw/before.rules", text.replace(b"# allow all on loopback", own, 1), 0o640)
    operator.server.run(["ufw", "reload"])
    words = ("-A ufw-before-input -p tcp -m tcp --dport 443 -j DROP", "/etc/ufw/before.rules")
    assert_blocked(operator, "firewall.refused_before", words)


def test_ipv6_that_is_shut_is_said_and_the_firewall_proved_all_the_same(
    attend: Callable[[ServerSpec], Operator],
) -> None:
    operator = attend(ServerSpec())
    operator.server.run(["sed", "-i", "s/^IPV6=.*/IPV6=no/", "/etc/default/ufw"])
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert "IPV6=no" in findings(document, "warn")["firewall.ipv6"]
    (firewall,) = (step for step in document["steps"] if step["id"] == "firewall")
    assert firewall["status"] == "changed", "proved by IPv4, and not put back"


def test_list_in_deb822_form_and_a_hold_are_recognised(secured: Operator) -> None:
    server = secured.server
    own = server.get(LIST)
    uri = next(word for word in own.decode().split() if word.startswith("https://dl."))
    text = f"Types: deb deb-src\nURIs: {uri}\nSuites: any-version\nComponents: main\nSigned-By: {KEYRING}\n"
    other = f"{LIST.removesuffix('.list')}.sources"
    server.put(other, text.encode())
    server.run(["sh", "-euc", f"rm {LIST}; apt-get update -q; apt-mark hold caddy"])
    try:
        document = secured.apply()
        assert (document["exit_code"], document["changed"]) == (0, False), changes_of(document)
        assert "apt-mark unhold caddy" in findings(document, "warn")["caddy.held"]
    finally:
        server.put(LIST, own)
        server.run(["sh", "-euc", f"rm {other}; apt-mark unhold caddy"])
