"""DNS judged before the CA is asked: each wrong record is named with what it should say, and a right one passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from tests.servers import scenario
from wizard import answers
from wizard.caa import parse_property
from wizard.described import DescribedMachine
from wizard.dns import check_dns
from wizard.engine import Look
from wizard.facts import Facts
from wizard.model import Finding, Level
from wizard.public_addresses import METADATA, find_public_addresses, is_private
from wizard.server import Address, DnsAnswer, Request, Response

NAME = "llm.example.com"
HERE, HERE6, ELSEWHERE, ELSEWHERE6 = "203.0.113.7", "2001:db8::7", "198.51.100.9", "2001:db8:ffff::9"
NS1, NS2 = "192.0.2.53", "192.0.2.54"
LETS_ENCRYPT = ("letsencrypt.org",)
Records = Mapping[str, Mapping[str, tuple[str, ...]]]
EXAMPLE: Records = {
    "example.com": {"NS": ("ns1.dns.example", "ns2.dns.example")},
    "ns1.dns.example": {"A": (NS1,)},
    "ns2.dns.example": {"A": (NS2,)},
}
GOOD: Records = {**EXAMPLE, NAME: {"A": (HERE,)}}


@dataclass
class Internet:
    """`zone` is what the name servers say; `cached` what the resolver says instead; `second` what NS2 says instead.

    A failure is by name and type, or by a name server's address.
    """

    zone: Records
    cached: Records = field(default_factory=dict)
    second: Records = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, name: str, kind: str, server: str | None) -> DnsAnswer:
        asked = server or "recursive"
        failure = self.failures.get(f"{name} {kind}") or self.failures.get(asked)
        if failure:
            return DnsAnswer(name, kind, status=failure, asked=asked)
        records = {**self.zone, **(self.cached if server is None else self.second if server == NS2 else {})}
        last = name
        for _ in range(12):
            target = records.get(last, {}).get("CNAME")
            if target is None or kind == "CNAME" or server is not None:
                break
            last = target[0]
        else:
            return DnsAnswer(name, kind, status="servfail", asked=asked, detail="a loop")
        if values := records.get(last, {}).get(kind, ()):
            return DnsAnswer(name, kind, values, ttl=300, asked=asked)
        exists = any(one == last or one.endswith(f".{last}") for one in records)
        return DnsAnswer(name, kind, status="nodata" if exists else "nxdomain", asked=asked)


class Machine(DescribedMachine):
    def __init__(self, internet: Internet, *addresses: str) -> None:
        about = scenario.load("exposed").description
        super().__init__(replace(about, addresses=tuple(Address("eth0", one) for one in addresses)))
        self.internet = internet
        self.requests: list[Request] = []

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        return self.internet.resolve(name, kind, server)

    def exchange(self, request: Request) -> Response:
        self.requests.append(request)
        said = self.internet.metadata.get(request.key)
        return Response(404) if said is None else Response(200, said.encode())


def look_at(internet: Internet, *addresses: str, tls: str = "") -> Look:
    text = f"version: 1\ntls: {{mode: acme, domain: {NAME}, email: ops@example.com{tls}}}\n"
    return Look(Facts(Machine(internet, *addresses)), answers.load(text.encode()))


def judge(
    internet: Internet,
    *addresses: str,
    tls: str = "",
    identities: tuple[str, ...] = LETS_ENCRYPT,
    level: Level = Level.BLOCKED,
) -> dict[str, Finding]:
    """The findings by key; each key is there once."""
    findings = list(check_dns(look_at(internet, *(addresses or (HERE,)), tls=tls), NAME, identities, level=level))
    assert len({one.key for one in findings}) == len(findings)
    return {one.key: one for one in findings}


def wrong(findings: Mapping[str, Finding]) -> dict[str, Level]:
    return {key: one.level for key, one in findings.items() if one.level in (Level.WARN, Level.BLOCKED)}


def zone(**records: tuple[str, ...]) -> Records:
    return {**EXAMPLE, NAME: records}


# ── addresses ──


def test_right_records_pass_with_nothing_to_say_against_them() -> None:
    findings = judge(Internet(GOOD))
    assert {key: one.level for key, one in findings.items()} == {
        "tls.dns_address": Level.OK,
        "tls.dns_authoritative": Level.OK,
        "tls.dns_caa": Level.OK,
    }
    assert findings["tls.dns_address"].evidence["found"] == [HERE]


def test_both_families_of_this_server_pass() -> None:
    assert not wrong(judge(Internet(zone(A=(HERE,), AAAA=("2001:DB8:0::7",))), HERE, HERE6))


def test_address_of_another_blocks_and_says_what_the_record_should_say() -> None:
    finding = judge(Internet(zone(A=(ELSEWHERE,))))["tls.dns_address"]
    assert finding.level is Level.BLOCKED
    assert ELSEWHERE in finding.summary and f"{NAME}. A {HERE}" in str(finding.remedy)
    assert (finding.evidence["found"], finding.evidence["wanted"]) == ([ELSEWHERE], [HERE])


def test_several_addresses_name_those_that_are_not_this_server() -> None:
    finding = judge(Internet(zone(A=(HERE, ELSEWHERE))))["tls.dns_address"]
    assert finding.level is Level.BLOCKED and finding.summary.endswith(f"this server's own ({HERE}): {ELSEWHERE}")


def test_several_addresses_all_of_this_server_pass() -> None:
    assert not wrong(judge(Internet(zone(A=(HERE, ELSEWHERE))), HERE, ELSEWHERE))


def test_name_that_dns_does_not_know_blocks_with_the_record_to_add() -> None:
    finding = judge(Internet(EXAMPLE))["tls.dns_address"]
    assert (finding.level, finding.summary) == (Level.BLOCKED, f"DNS does not know {NAME}")
    assert f"{NAME}. A {HERE}" in str(finding.remedy)


def test_name_without_address_blocks() -> None:
    finding = judge(Internet(zone(TXT=("hello",))))["tls.dns_address"]
    assert (finding.level, finding.summary) == (Level.BLOCKED, f"{NAME} has no A record")


def test_unknown_public_address_warns_that_nothing_can_be_compared() -> None:
    finding = judge(Internet(GOOD), "10.0.0.5")["tls.dns_address"]
    assert finding.level is Level.WARN
    assert f"public_addresses: [{HERE}]" in str(finding.remedy) and "unknown" in finding.summary


def test_answers_decide_behind_nat() -> None:
    assert not wrong(judge(Internet(GOOD), "10.0.0.5", tls=f", public_addresses: [{HERE}]"))
    other = judge(Internet(GOOD), "10.0.0.5", tls=f", public_addresses: [{ELSEWHERE}]")
    assert wrong(other) == {"tls.dns_address": Level.BLOCKED}


def test_cloudflares_address_says_how_to_switch_its_proxy_off() -> None:
    finding = judge(Internet(zone(A=("104.16.1.1",))))["tls.dns_address"]
    assert finding.level is Level.BLOCKED and "DNS only" in str(finding.remedy)


def test_cloudflares_address_is_another_also_where_this_servers_is_unknown() -> None:
    findings = judge(Internet(zone(A=("104.16.1.1",))), "10.0.0.5")
    assert wrong(findings) == {"tls.dns_address": Level.BLOCKED}


@pytest.mark.parametrize(
    ("alias", "cdn"),
    [
        ("d111111abcdef8.cloudfront.net", "Amazon CloudFront"),
        ("llm.example.com.edgekey.net", "Akamai"),
        ("dualstack.x.global.fastly.net", "Fastly"),
        ("x.z01.azurefd.net", "Azure Front Door"),
    ],
)
@pytest.mark.parametrize("own", [HERE, "10.0.0.5"])
def test_alias_of_a_cdn_blocks_and_names_it(alias: str, cdn: str, own: str) -> None:
    """Also where this server's public address is unknown: a CDN's is another's."""
    records = {**EXAMPLE, NAME: {"CNAME": (alias,)}, alias: {"A": (ELSEWHERE,)}}
    finding = judge(Internet(records), own)["tls.dns_address"]
    assert finding.level is Level.BLOCKED
    assert f"but {cdn}: that would read each key" in finding.summary


def test_name_that_only_looks_like_a_cdns_is_none() -> None:
    records = {**EXAMPLE, NAME: {"CNAME": ("notcloudfront.net",)}, "notcloudfront.net": {"A": (ELSEWHERE,)}}
    assert "CloudFront" not in judge(Internet(records), HERE)["tls.dns_address"].summary


def test_private_address_blocks_for_a_public_ca_also_where_it_is_this_servers() -> None:
    findings = judge(Internet(zone(A=("10.0.0.5",))), "10.0.0.5")
    assert wrong(findings) == {"tls.dns_private": Level.BLOCKED} and "tls.dns_address" not in findings


def test_private_address_is_fine_for_a_private_ca() -> None:
    internet = Internet(zone(A=("10.0.0.5",)))
    assert not wrong(judge(internet, "10.0.0.5", tls=", acme_ca_file: /etc/ca.pem"))
    other = judge(internet, "10.0.0.6", tls=", acme_ca_file: /etc/ca.pem")
    assert wrong(other) == {"tls.dns_address": Level.BLOCKED}
    assert other["tls.dns_address"].summary.endswith("this server is 10.0.0.6, say the interfaces")


def test_container_bridges_are_no_address_of_this_server() -> None:
    look = look_at(Internet(zone(A=("172.17.0.1",))), tls=", acme_ca_file: /etc/ca.pem")
    described = replace(
        scenario.load("exposed").description,
        addresses=(Address("docker0", "172.17.0.1"), Address("eth0", "10.0.0.5", primary=True)),
    )
    machine = Machine(Internet(zone(A=("172.17.0.1",))))
    machine.description = described
    findings = {one.key: one for one in check_dns(replace(look, server=Facts(machine)), NAME, LETS_ENCRYPT)}
    assert findings["tls.dns_address"].level is Level.BLOCKED


# ── IPv6 ──


def test_stray_ipv6_address_blocks_though_the_a_record_is_right() -> None:
    findings = judge(Internet(zone(A=(HERE,), AAAA=(ELSEWHERE6,))))
    assert wrong(findings) == {"tls.dns_ipv6": Level.BLOCKED}
    assert ELSEWHERE6 in findings["tls.dns_ipv6"].summary
    assert str(findings["tls.dns_ipv6"].remedy).startswith("remove that AAAA record")


def test_stray_ipv6_address_names_the_right_one_where_the_server_has_one() -> None:
    findings = judge(Internet(zone(A=(HERE,), AAAA=(ELSEWHERE6,))), HERE, HERE6)
    assert f"{NAME}. AAAA {HERE6}" in str(findings["tls.dns_ipv6"].remedy)


def test_ipv6_alone_is_enough_where_the_server_has_no_other() -> None:
    findings = judge(Internet(zone(AAAA=(HERE6,))), HERE6)
    assert not wrong(findings) and "IPv6 alone" in findings["tls.dns_address"].summary


def test_ipv6_alone_warns_where_the_server_has_an_ipv4_address() -> None:
    assert wrong(judge(Internet(zone(AAAA=(HERE6,))), HERE, HERE6)) == {"tls.dns_address": Level.WARN}


def test_private_ipv6_address_blocks() -> None:
    findings = judge(Internet(zone(A=(HERE,), AAAA=("fd00::7",))), HERE, "fd00::7")
    assert wrong(findings) == {"tls.dns_private": Level.BLOCKED}


def test_private_addresses_of_both_families_are_one_finding() -> None:
    findings = judge(Internet(zone(A=("10.0.0.5",), AAAA=("fd00::7",))), HERE)
    assert wrong(findings) == {"tls.dns_private": Level.BLOCKED}
    assert "A 10.0.0.5 and AAAA fd00::7" in findings["tls.dns_private"].summary


def test_unanswered_ipv6_question_warns() -> None:
    internet = Internet({NAME: {"A": (HERE,)}}, failures={f"{NAME} AAAA": "timeout"})
    assert wrong(judge(internet)) == {"tls.dns_ipv6": Level.WARN}


# ── CNAME ──


def test_chain_of_aliases_is_shown_and_followed() -> None:
    records = {**EXAMPLE, NAME: {"CNAME": ("a.example.com",)}, "a.example.com": {"CNAME": ("b.example.com",)}}
    findings = judge(Internet({**records, "b.example.com": {"A": (HERE,)}}))
    assert not wrong(findings)
    assert findings["tls.dns_cname"].level is Level.INFO
    assert findings["tls.dns_cname"].evidence["chain"] == [NAME, "a.example.com", "b.example.com"]


def test_wrong_address_behind_an_alias_names_the_record_to_change() -> None:
    records = {**EXAMPLE, NAME: {"CNAME": ("a.example.com",)}, "a.example.com": {"A": (ELSEWHERE,)}}
    assert f"a.example.com. A {HERE}" in str(judge(Internet(records))["tls.dns_address"].remedy)


@pytest.mark.parametrize("back", [NAME, "a.example.com"])
def test_loop_of_aliases_blocks_with_the_loop_shown(back: str) -> None:
    records = {**EXAMPLE, NAME: {"CNAME": ("a.example.com",)}, "a.example.com": {"CNAME": (back,)}}
    findings = judge(Internet(records))
    assert wrong(findings) == {"tls.dns_cname": Level.BLOCKED}
    assert f"{NAME} → a.example.com → {back}" in findings["tls.dns_cname"].summary


def test_loop_that_the_resolver_has_not_seen_yet_blocks() -> None:
    records = {**EXAMPLE, NAME: {"CNAME": (NAME,)}}
    assert wrong(judge(Internet(records, cached=GOOD))) == {"tls.dns_cname": Level.BLOCKED}


def test_endless_chain_blocks() -> None:
    aliases = {f"a{number}.example.com": {"CNAME": (f"a{number + 1}.example.com",)} for number in range(20)}
    findings = judge(Internet({**EXAMPLE, NAME: {"CNAME": ("a0.example.com",)}, **aliases}))
    assert wrong(findings) == {"tls.dns_cname": Level.BLOCKED} and "on and on" in findings["tls.dns_cname"].summary


def test_alias_to_a_name_that_does_not_exist_blocks_with_both_names() -> None:
    finding = judge(Internet({**EXAMPLE, NAME: {"CNAME": ("gone.example.com",)}}))["tls.dns_address"]
    assert finding.level is Level.BLOCKED
    assert finding.summary == f"the CNAME record of {NAME} points to gone.example.com, which does not exist"


# ── resolvers and name servers ──


@pytest.mark.parametrize("status", ["timeout", "refused", "unreachable"])
def test_no_answering_resolver_blocks_with_a_look_at_this_server(status: str) -> None:
    findings = judge(Internet(GOOD, failures={"recursive": status}))
    assert wrong(findings) == {"tls.dns_unreachable": Level.BLOCKED}
    assert "resolv.conf" in str(findings["tls.dns_unreachable"].remedy)


def test_silence_is_waited_for_once() -> None:
    asked: list[tuple[str, str]] = []

    class Silent(Internet):
        def resolve(self, name: str, kind: str, server: str | None) -> DnsAnswer:
            asked.append((name, kind))
            return DnsAnswer(name, kind, status="timeout")

    assert wrong(judge(Silent(GOOD))) == {"tls.dns_unreachable": Level.BLOCKED}
    assert asked == [(NAME, "A")]


def test_servfail_blocks_with_a_look_at_the_domain() -> None:
    findings = judge(Internet(GOOD, failures={f"{NAME} A": "servfail"}))
    assert wrong(findings) == {"tls.dns_unreachable": Level.BLOCKED}
    assert "DNSSEC" in str(findings["tls.dns_unreachable"].remedy)


def test_old_answer_in_the_resolver_only_warns_with_how_long() -> None:
    findings = judge(Internet(GOOD, cached=zone(A=(ELSEWHERE,))))
    assert wrong(findings) == {"tls.dns_authoritative": Level.WARN}
    assert "300 s" in str(findings["tls.dns_authoritative"].remedy)


def test_name_that_the_resolver_does_not_know_yet_only_warns() -> None:
    assert wrong(judge(Internet(GOOD, cached={NAME: {}}))) == {"tls.dns_authoritative": Level.WARN}


def test_wrong_answer_of_the_name_servers_blocks_though_the_resolver_is_right() -> None:
    findings = judge(Internet(zone(A=(ELSEWHERE,)), cached=GOOD))
    assert wrong(findings) == {"tls.dns_address": Level.BLOCKED, "tls.dns_authoritative": Level.WARN}


def test_private_answer_inside_does_not_count_where_the_outside_is_right() -> None:
    findings = judge(Internet(GOOD, cached=zone(A=("10.0.0.5",))), "10.0.0.5", HERE)
    assert wrong(findings) == {"tls.dns_authoritative": Level.WARN}


def test_name_servers_that_disagree_block_and_are_named() -> None:
    findings = judge(Internet(GOOD, second={NAME: {"A": (ELSEWHERE,)}}))
    assert wrong(findings) == {"tls.dns_address": Level.BLOCKED, "tls.dns_authoritative": Level.BLOCKED}
    assert f"{NS2}: {ELSEWHERE}" in findings["tls.dns_authoritative"].summary


def test_name_server_that_does_not_know_the_name_yet_blocks() -> None:
    findings = judge(Internet(GOOD, second={NAME: {}}))
    assert wrong(findings) == {"tls.dns_authoritative": Level.BLOCKED}
    assert f"{NS2}: nothing" in findings["tls.dns_authoritative"].summary


@pytest.mark.parametrize("status", ["timeout", "lame"])
def test_one_name_server_that_does_not_answer_is_passed_over(status: str) -> None:
    assert not wrong(judge(Internet(GOOD, failures={NS1: status})))


def test_resolver_is_believed_where_no_name_server_answers() -> None:
    findings = judge(Internet(GOOD, failures={NS1: "timeout", NS2: "refused"}))
    assert not wrong(findings) and findings["tls.dns_authoritative"].level is Level.INFO
    other = judge(Internet(zone(A=(ELSEWHERE,)), failures={NS1: "timeout", NS2: "timeout"}))
    assert wrong(other) == {"tls.dns_address": Level.BLOCKED}


def test_failures_count_as_the_caller_says() -> None:
    records = {
        **zone(A=(ELSEWHERE,), AAAA=(ELSEWHERE6,)),
        "example.com": {**EXAMPLE["example.com"], "CAA": ('0 issue ";"',)},
    }
    found = wrong(judge(Internet(records), level=Level.WARN))
    assert found == dict.fromkeys(("tls.dns_address", "tls.dns_ipv6", "tls.dns_caa"), Level.WARN)


# ── CAA ──


def caa(*records: str, at: str = NAME, identities: tuple[str, ...] = LETS_ENCRYPT, tls: str = "") -> Finding:
    own = {**GOOD, at: {**GOOD.get(at, {}), "CAA": records}}
    return judge(Internet(own), identities=identities, tls=tls)["tls.dns_caa"]


@pytest.mark.parametrize(
    ("records", "level"),
    [
        (['0 issue "letsencrypt.org"'], Level.OK),
        (['0 issue "LetsEncrypt.org"'], Level.OK),
        (['0 issue "ca.example"', '0 issue "letsencrypt.org"'], Level.OK),
        (['0 issue "ca.example"'], Level.BLOCKED),
        (['0 issue ";"'], Level.BLOCKED),
        (['0 issue ""'], Level.BLOCKED),
        (['0 issuewild ";"'], Level.OK),
        (['0 iodef "mailto:ops@example.com"'], Level.OK),
        (['128 tbs "unknown"', '0 issue "letsencrypt.org"'], Level.BLOCKED),
        (['0 tbs "unknown"'], Level.OK),
        (['0 issue "letsencrypt.org; validationmethods=dns-01"'], Level.BLOCKED),
        (['0 issue "letsencrypt.org; validationmethods=http-01,dns-01"'], Level.OK),
        (['0 issue "letsencrypt.org; accounturi=https://ca.example/acct/1"'], Level.WARN),
        (['0 issue "letsencrypt.org; accounturi=https://ca.example/1"', '0 issue "letsencrypt.org"'], Level.OK),
    ],
)
def test_caa_records_are_read_as_a_ca_reads_them(records: list[str], level: Level) -> None:
    assert caa(*records).level is level


@pytest.mark.parametrize("at", ["example.com", "com"])
def test_caa_record_of_a_parent_holds_and_is_named(at: str) -> None:
    finding = caa('0 issue "ca.example"', at=at)
    assert finding.level is Level.BLOCKED and finding.evidence["name"] == at
    assert f'{at}. CAA 0 issue "letsencrypt.org"' in str(finding.remedy)


def test_caa_record_of_the_name_itself_hides_the_parents() -> None:
    records = {**GOOD, NAME: {"A": (HERE,), "CAA": ('0 issue "letsencrypt.org"',)}}
    records["example.com"] = {**EXAMPLE["example.com"], "CAA": ('0 issue ";"',)}
    assert judge(Internet(records))["tls.dns_caa"].level is Level.OK


def test_ca_that_says_no_name_warns_where_there_is_any_caa_record() -> None:
    directory = ", acme_directory: 'https://ca.example/directory'"
    assert caa('0 issue "ca.example"', identities=(), tls=directory).level is Level.WARN
    assert judge(Internet(GOOD), identities=(), tls=directory)["tls.dns_caa"].level is Level.OK


def test_lets_encrypts_name_is_known_where_its_directory_could_not_be_read() -> None:
    assert caa('0 issue "letsencrypt.org"', identities=()).level is Level.OK
    assert caa('0 issue "ca.example"', identities=()).level is Level.BLOCKED


@pytest.mark.parametrize(("status", "level"), [("servfail", Level.BLOCKED), ("timeout", Level.WARN)])
def test_caa_question_that_fails_is_no_permission(status: str, level: Level) -> None:
    findings = judge(Internet(GOOD, failures={"example.com CAA": status}))
    assert wrong(findings) == {"tls.dns_caa": level}


def test_text_that_is_no_caa_record_is_none() -> None:
    assert parse_property("letsencrypt.org") is None


# ── public addresses ──

PORT = f"http://{METADATA}:80"
TOKEN = f"PUT {PORT}/latest/api/token host={METADATA} X-aws-ec2-metadata-token-ttl-seconds"
EC2 = f"GET {PORT}/latest/meta-data/public-ipv4 host={METADATA}"


def metadata(path: str, *names: str) -> str:
    return f"GET {PORT}{path} host={METADATA}" + "".join(f" {name}" for name in names)


AZURE = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text"
BALANCER = '{"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "203.0.113.7"}]}}'
CLOUDS = {
    "AWS": {TOKEN: "token==", f"{EC2} X-aws-ec2-metadata-token": HERE},
    "OpenStack": {EC2: f"{HERE}\n"},
    "Google Cloud": {
        metadata(
            "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip", "Metadata-Flavor"
        ): HERE
    },
    "Azure": {metadata(AZURE, "Metadata"): HERE},
    "Azure's load balancer": {
        metadata(AZURE, "Metadata"): "",
        metadata("/metadata/loadbalancer?api-version=2020-10-01", "Metadata"): BALANCER,
    },
    "Hetzner": {metadata("/hetzner/v1/metadata/public-ipv4"): HERE},
    "DigitalOcean": {metadata("/metadata/v1/interfaces/public/0/ipv4/address"): HERE},
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_cloud_tells_the_address_that_its_nat_gives(cloud: str) -> None:
    found = find_public_addresses(look_at(Internet(GOOD, metadata=CLOUDS[cloud]), "10.0.0.5", HERE6))
    assert found.addresses == (HERE, HERE6)
    assert found.source == f"the metadata of {cloud}"
    assert not wrong(judge(Internet(GOOD, metadata=CLOUDS[cloud]), "10.0.0.5"))


def test_address_that_the_cloud_knows_makes_another_in_dns_a_wrong_one() -> None:
    findings = judge(Internet(zone(A=(ELSEWHERE,)), metadata=CLOUDS["Hetzner"]), "10.0.0.5")
    assert wrong(findings) == {"tls.dns_address": Level.BLOCKED}


@pytest.mark.parametrize("said", ["", "10.0.0.5", "<html>welcome</html>", "203.0.113.7 203.0.113.8"])
def test_metadata_that_is_no_public_address_is_no_answer(said: str) -> None:
    found = find_public_addresses(look_at(Internet(GOOD, metadata={EC2: said}), "10.0.0.5"))
    assert (found.addresses, found.source) == ((), "unknown")


def test_token_that_would_break_the_request_is_not_sent() -> None:
    internet = Internet(GOOD, metadata={TOKEN: "a\r\nHost: elsewhere", f"{EC2} X-aws-ec2-metadata-token": HERE})
    assert find_public_addresses(look_at(internet, "10.0.0.5")).source == "unknown"


def test_nobody_is_asked_where_the_interfaces_or_the_answers_know() -> None:
    for look in (look_at(Internet(GOOD), HERE), look_at(Internet(GOOD), tls=f", public_addresses: [{HERE}]")):
        assert isinstance(look.server, Facts) and isinstance(look.server.machine, Machine)
        assert find_public_addresses(look).addresses == (HERE,)
        assert not look.server.machine.requests


def test_token_is_in_no_repr_and_no_key() -> None:
    request = Request(METADATA, 80, headers=(("X-aws-ec2-metadata-token", "token=="),))
    assert "token==" not in f"{request!r}{request.key}"


@pytest.mark.parametrize(
    ("address", "private"),
    [
        *((one, True) for one in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.1.1")),
        *((one, True) for one in ("fd00::1", "fe80::1", "::1", "::", "0.0.0.0", "::ffff:10.0.0.1", "224.0.0.1")),
        *((one, False) for one in ("172.32.0.1", "100.128.0.1", "8.8.8.8", "2a00::1", "::ffff:8.8.8.8")),
    ],
)
def test_private_addresses_are_those_that_the_internet_does_not_reach(address: str, private: bool) -> None:
    assert is_private(address) is private
