"""Several services with vLLM on one server: each is bound to loopback, served under its own address, and proved."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec
from tests.lab.operator import Operator, began, changes_of, findings, in_words, rows, troubles
from tests.lab.site import DOMAIN, Site
from tests.lab.space import OUTSIDE, Deadline
from tests.lab.spec import CANARY, VLLM_SERVICE, File, more_vllm
from tests.lab.test_harden_confine import DROP_IN, status_of
from tests.lab.test_harden_watch import FURTHER
from tests.lab.test_uninstall import left

pytestmark = pytest.mark.lab

FIRST_KEY, OTHER_KEY = CANARY, "sk-embed/9Zx+another/key=="
SCRIPT, EMBED_SCRIPT = "/opt/vllm/start-vllm.sh", "/opt/vllm/start-embed.sh"
EMBED = "vllm-embed.service"
MORE = {"unit": EMBED, "path": "embed"}
UNITS = ("vllm.service", EMBED)
ENV, EMBED_ENV = "/etc/vllm/vllm.env", "/etc/vllm/embed.env"
# Works with the operator's own key alone.
PARTICULAR = b'[[ "$VLLM_API_KEY" == sk-lab* ]] || { echo "no such key" >&2; exit 1; }\n'
HARDEN = {"sandbox": ["vllm"], "metrics_from": [OUTSIDE]}


def start_second(server: Server) -> None:
    """The second service enabled and started anew; returns when it listens."""
    server.run(["systemctl", "enable", EMBED])
    server.run(["systemctl", "restart", EMBED])
    until = Deadline("the second service to listen", 30)
    while 8001 not in server.listening():
        until.tick()


@pytest.fixture
def operator(lab: Lab, attend: Any) -> Iterator[Operator]:
    """The operator of a server with two services, both of which the network can reach."""
    known: Operator = attend(ServerSpec(files=more_vllm("embed", 8001, OTHER_KEY)))
    start_second(known.server)
    yield known


class Client:
    """Another machine, that trusts the root certificate of a server's own CA."""

    def __init__(self, operator: Operator, host: str = "", root: bytes = b"") -> None:
        self.outside, self.server = operator.lab.outside, operator.server
        self.host = host or self.server.address
        self.root = self.outside.key.with_name("root-of-a-client.pem")
        self.root.write_bytes(root or self.server.get("/etc/vllm-https-setup/root.crt"))

    def ask(self, path: str, key: str = "", body: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Status ("000" for none) and body of a request, whose path is sent as it stands."""
        argv = ["curl", "-s", "-m", "10", "--path-as-is", "--cacert", str(self.root), "-w", "\n%{http_code}"]
        argv += ["--connect-to", f"{self.host}::{self.server.address}:", f"https://{self.host}{path}"]
        argv += ["-H", f"Authorization: Bearer {key}"] if key else []
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body is not None else []
        said, _, status = self.outside.run(argv, check=False).stdout.rpartition("\n")
        return status, said

    def models(self, base: str, key: str) -> list[str]:
        """What a base URL lists; or its status, where that is none."""
        status, said = self.ask(f"{base}/models", key)
        return [one["id"] for one in json.loads(said)["data"]] if status == "200" else [status]

    def scrape(self, path: str, *words: str) -> tuple[str, str]:
        """Status and body of a scrape, by the machine outside."""
        argv = ["curl", "-s", "-m", "2", "-w", "\n%{http_code}", f"http://{self.server.address}:9180{path}"]
        said, _, status = self.outside.run([*argv, *words], check=False).stdout.rpartition("\n")
        return status, said

    def ports(self, *ports: int) -> dict[int, str]:
        return {port: self.outside.tcp(self.server.address, port, 0.5) for port in ports}


CHAT = {"model": "embed", "messages": [{"role": "user", "content": "hello"}], "stream": True}
# What leads out of a prefix, or past it, as a client could write it.
ASTRAY = (
    *(
        "/embed",
        "/embed/",
        "/embed/v1",
        "/embed/health",
        "/embed/metrics",
        "/embed/v1/../metrics",
        "/embedded/v1/models",
    ),
    *("/embed/v1/%2e%2e/metrics", "/embed/v1/../../metrics", "/embed/../metrics", "/embed/v1/../../embed/metrics"),
    *("/embed/v1/load_lora_adapter", "/embed/v1/unload_lora_adapter", "/embed/embed/v1/models", "/embed/v2/models"),
    *("/embed/v1/..%2fmetrics", "/embed/v1/..%2f..%2fmetrics", "/embed/v1%2f..%2fmetrics", "/embed%2fmetrics"),
)
# What Caddy takes for the prefix as well: there is nothing behind it that asks for no key.
ALIKE = ("/EMBED/v1/models", "//embed/v1/models", "/embed//v1/models", "/embed%2fv1/models", "/embed/./v1/models")


def test_two_services_are_closed_and_each_served_under_its_own_address(operator: Operator) -> None:
    server = operator.server
    server.ssh("sudo true")
    before = server.snapshot()

    alone = operator.plan()
    told = findings(alone, "warn")["preflight.other_vllm"]
    assert f"{EMBED} runs vLLM, too (0.0.0.0:8001)" in told
    assert f"vllm: {{more: [{{unit: {EMBED}, path: embed}}]}}" in told
    assert not [one for one in in_words(changes_of(alone)) if EMBED in one]

    operator.answer(vllm={"more": [MORE]}, harden=HARDEN)
    planned = operator.plan()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert in_words(changes_of(document)) == in_words(changes_of(planned))
    for unit in UNITS:
        assert (starts(server, unit), is_confined(server, unit)) == (2, True), "bound and confined by one restart"
    address = server.address
    assert document["endpoint"]["more"] == [{"base_url": f"https://{address}/embed/v1", "model": "embed"}]
    proved = rows(document)
    assert {f"api.{one}.embed" for one in ("unauthorized", "models", "chat", "stream", "blocked")} <= set(proved)
    assert set(proved.values()) == {True}

    client = Client(operator)
    assert client.ports(8000, 8001, 443) == {8000: "filtered", 8001: "filtered", 443: "open"}
    assert server.run(["ss", "-Hltn"]).stdout.count("127.0.0.1:800") == 2
    assert client.models("/v1", FIRST_KEY) == ["phi-4-mini"]
    assert client.models("/embed/v1", OTHER_KEY) == ["embed"]
    for base, key in (("/v1", OTHER_KEY), ("/embed/v1", FIRST_KEY), ("/embed/v1", ""), ("/EMBED/v1", "wrong")):
        assert client.models(base, key) == ["401"], (base, key)
    status, said = client.ask("/embed/v1/chat/completions", OTHER_KEY, CHAT)
    assert status == "200" and said.count("data: ") > 5 and said.rstrip().endswith("[DONE]")
    answered = {path: client.ask(path, OTHER_KEY)[0] for path in ASTRAY}
    assert {path: status for path, status in answered.items() if status != "404"} == {}
    assert {path: client.ask(path)[0] for path in ALIKE} == dict.fromkeys(ALIKE, "401")
    came = re.findall(r'"[A-Z]+ (\S+) HTTP', server.run(["journalctl", "-u", EMBED, "-o", "cat"]).stdout)
    assert {path for path in came if not path.startswith("/v1/")} == {"/version"}, "which preflight asks on loopback"

    assert_metrics(client)
    assert_key_of_one(operator, client)

    again = operator.apply()
    assert (again["exit_code"], again["changed"], changes_of(again)) == (0, False, [])

    server.run(["sed", "-i", "s/--host 127.0.0.1/--host 0.0.0.0/", EMBED_SCRIPT])
    start_second(server)
    status_ = operator.ask("status")
    assert status_["exit_code"] == 1
    assert {"bind.launch_script", "bind.listener"} <= set(findings(status_, "drift"))
    document = operator.ask("repair")
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert [one for one in in_words(changes_of(document)) if "restart" in one] == [f"run systemctl restart {EMBED}"]

    operator.answer(harden=HARDEN)
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert [is_confined(server, unit) for unit in UNITS] == [True, False], "one that is dropped is free again"
    assert operator.file(DROP_IN.format(EMBED)) is None
    assert client.scrape("/vllm/embed")[0] == "404"
    assert "more" not in document["endpoint"]
    assert "for programs on this server alone" in findings(document, "info")["preflight.other_vllm"]
    assert client.ask("/embed/v1/models", OTHER_KEY)[0] == "404"
    assert client.ports(8001) == {8001: "filtered"}

    operator.answer(vllm={"more": [MORE]}, harden=HARDEN)
    assert operator.apply()["exit_code"] == 0
    said = operator.say("uninstall --plan").stdout
    assert [one for one in ("vllm.service", EMBED) if f"systemctl restart {one}" not in said] == []
    document = operator.ask("uninstall --yes --expose --purge")
    assert (document["exit_code"], document["warnings"]) == (0, [])
    assert left(before, server) == []
    assert client.ports(8000, 8001) == {8000: "open", 8001: "open"}
    assert [is_confined(server, unit) for unit in UNITS] == [False, False]


def starts(server: Server, unit: str) -> int:
    """How often vLLM has begun to load its model."""
    said = server.run(["journalctl", "-q", "-u", unit, "-o", "cat"]).stdout
    return said.count("vLLM API server version")


def is_confined(server: Server, unit: str) -> bool:
    """Of its process, and of what its next start will be like."""
    path = DROP_IN.format(unit)
    shown = server.run(["systemctl", "show", "-P", "DropInPaths", unit]).stdout
    no_new_rights = status_of(server, unit)["NoNewPrivs"] == "1"
    assert no_new_rights == (path in shown) == (server.run(["test", "-e", path], check=False).code == 0)
    return no_new_rights


def assert_metrics(client: Client) -> None:
    """Each service's own, at the port for scrapers alone."""
    client.outside.run(["ip", "addr", "add", f"{FURTHER}/16", "dev", "eth0"], check=False)
    found = {path: client.scrape(path) for path in ("/vllm", "/vllm/embed", "/vllm/other", "/embed/metrics")}
    assert [status for status, _ in found.values()] == ["200", "200", "404", "404"]
    assert ['model_name="embed"' in said for _, said in found.values()][:2] == [False, True]
    assert client.scrape("/vllm/embed", "--interface", FURTHER)[0] == "000", "the firewall lets others nowhere near"


def assert_key_of_one(operator: Operator, client: Client) -> None:
    """`key new --unit`: the first has no part in it. Both are left with the keys that they had."""
    server = operator.server
    kept, count = {path: server.get(path) for path in (ENV, EMBED_ENV)}, starts(server, "vllm.service")
    document = operator.ask(f"key new --unit {EMBED} --yes")
    assert (document["exit_code"], set(rows(document).values())) == (0, {True}), troubles(document)
    assert "vllm.service keeps its own API key" in findings(document, "info")["preflight.key_kept"]
    new = key_in(server, EMBED_ENV)
    assert (server.get(ENV), starts(server, "vllm.service")) == (kept[ENV], count)
    assert [client.models("/embed/v1", key) for key in (OTHER_KEY, new)] == [["401"], ["embed"]]
    assert client.models("/v1", FIRST_KEY) == ["phi-4-mini"]
    server.put(EMBED_ENV, kept[EMBED_ENV], 0o600)
    start_second(server)


def test_key_that_two_services_share_is_replaced_for_both_or_for_none(operator: Operator) -> None:
    server, unit = operator.server, f"/etc/systemd/system/{EMBED}"
    server.put(unit, server.get(unit).replace(EMBED_ENV.encode(), ENV.encode()))
    server.put(EMBED_SCRIPT, server.get(EMBED_SCRIPT).replace(b"exec vllm", PARTICULAR + b"exec vllm"), 0o755)
    server.run(["systemctl", "daemon-reload"])
    start_second(server)
    answers = "--answers answers.yaml"
    operator.answer(vllm={"more": [MORE]})
    refused = operator.say(f"key new --unit nobody {answers} --yes")
    assert (refused.code, "nobody.service is no service of the answers" in refused.stderr) == (2, True), refused

    def heard(key: str) -> list[str]:
        """What both say to this key, on loopback."""
        ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {key}"]
        return [server.run([*ask, f"http://127.0.0.1:{port}/v1/models"], check=False).stdout for port in (8000, 8001)]

    before = server.get(ENV)
    document = operator.ask(f"key new {answers} --yes")
    assert document["exit_code"] == 1
    assert any(f"{EMBED} fails with the new key" in one for one in troubles(document)), document
    assert server.get(ENV) == before
    until = Deadline("both to answer with the old key again", 30)
    while heard(FIRST_KEY) != ["200", "200"]:
        until.tick(0.2)

    server.put(EMBED_SCRIPT, server.get(EMBED_SCRIPT).replace(PARTICULAR, b""), 0o755)
    document = operator.ask(f"key new --unit {EMBED} {answers} --yes")
    assert (document["exit_code"], troubles(document)[1:]) == (0, [])
    assert [one for one in in_words(changes_of(document)) if "restart" in one] == [
        f"run systemctl restart {one}" for one in reversed(UNITS)
    ]
    assert any(f"clients of vllm.service and {EMBED} need the new API key" in one for one in document["warnings"])
    assert [heard(key) for key in (FIRST_KEY, key_in(server, ENV))] == [["401", "401"], ["200", "200"]]


def key_in(server: Server, path: str) -> str:
    found = re.search(r"^VLLM_API_KEY=(.+)$", server.get(path).decode(), re.M)
    assert found is not None
    return found[1]


OTHER_NAME = "embed.example.test"
IN_UNIT = "ExecStart=/opt/vllm/venv/bin/vllm serve org/{0} --host 0.0.0.0 --port {1} --served-model-name {0}"
OWN_SETTINGS = "/etc/vllm-standin-embed.json"


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Any) -> Iterator[Site]:
    """A server with two services, each of whose units has vLLM's command itself."""
    more = more_vllm("embed", 8001, OTHER_KEY)
    first = VLLM_SERVICE.replace("ExecStart=/opt/vllm/start-vllm.sh", IN_UNIT.format("phi-4-mini", 8000))
    unit = f"/etc/systemd/system/{EMBED}"
    text = more[unit].content.decode().replace(f"ExecStart={EMBED_SCRIPT}", IN_UNIT.format("embed", 8001))
    text = text.replace("[Install]", f"Environment=VLLM_STANDIN_SETTINGS={OWN_SETTINGS}\n[Install]")
    more |= {"/etc/systemd/system/vllm.service": File(first.encode()), unit: File(text.encode())}
    more[OWN_SETTINGS] = File(b'{"fail": "loopback"}')
    operator: Operator = attend(ServerSpec(files=more, guide_packages=True))
    start_second(operator.server)
    yield Site(lab, acme, operator)


def answer(site: Site, **tls: str) -> None:
    """The site's answers, with the second service under a name of its own, and both confined."""
    known = json.loads(site.server.get("/home/operator/answers.yaml"))["tls"]
    more = {"more": [{"unit": EMBED, "host": OTHER_NAME}]}
    site.operator.answer(tls={**known, **tls}, vllm=more, harden={"sandbox": ["vllm"]})


def loopback(site: Site) -> list[bool]:
    """Of each service, whether it listens on loopback alone."""
    listening = site.server.run(["ss", "-Hltn"]).stdout
    return [f"127.0.0.1:{port}" in listening for port in (8000, 8001)]


def test_service_with_a_name_of_its_own_needs_a_certificate_for_it(site: Site) -> None:
    operator, server = site.operator, site.server
    site.trust(site.lab.certificates.root)
    short = site.lab.certificates.issue(DOMAIN)
    site.answer_custom(short.chain, short.key)
    answer(site)
    document = operator.apply()
    assert (document["exit_code"], document["changed"]) == (3, False)
    refused = findings(document, "blocked")
    assert list(refused) == ["tls.certificate_refused"] and OTHER_NAME in refused["tls.certificate_refused"]

    leaf = site.lab.certificates.issue(DOMAIN, OTHER_NAME)
    site.answer_custom(leaf.chain, leaf.key)
    answer(site)
    document = operator.apply()
    assert document["exit_code"] == 1, "it fails on loopback"
    assert any(f"{EMBED}: " in one or EMBED in one for one in troubles(document))
    assert loopback(site) == [True, False], "its unit is put back, and it runs as before; the first is not concerned"
    assert b"--host 0.0.0.0" in server.get(f"/etc/systemd/system/{EMBED}")
    assert [is_confined(server, unit) for unit in UNITS] == [True, False]
    assert "does not come up so confined" in " ".join(troubles(document)), "that was tried without, too"
    assert starts(server, "vllm.service") == 2

    server.put(OWN_SETTINGS, b'{"load_seconds": 1}')
    with operator.start() as typed:
        operator.wait_for(began("run", "systemctl restart", EMBED))
        operator.kill_run()
        typed.end()
    operator.wait_until_idle()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert loopback(site) == [is_confined(server, unit) for unit in UNITS] == [True, True]
    proved = rows(document)
    assert {f"{one}.{OTHER_NAME}" for one in ("tls.handshake", "tls.trusted", "api.models", "http.redirect")} <= set(
        proved
    )
    assert document["endpoint"]["more"] == [{"base_url": f"https://{OTHER_NAME}/v1", "model": "embed"}]

    root = site.lab.certificates.root
    for name, key, model in ((DOMAIN, FIRST_KEY, "phi-4-mini"), (OTHER_NAME, OTHER_KEY, "embed")):
        client = Client(operator, name, root)
        assert client.models("/v1", key) == [model]
        assert client.models("/v1", "wrong") == ["401"]
        assert client.ask("/metrics", key)[0] == "404"
    assert Client(operator, "other.example.test", root).ask("/v1/models", OTHER_KEY)[0] == "000"
    logged = server.run(["cat", "/var/log/caddy/vllm-https.log"]).stdout
    assert OTHER_NAME in logged and OTHER_KEY not in logged
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)

    assert_issued_for_both(site)

    document = operator.ask("uninstall --yes --keep-bind")
    assert (document["exit_code"], loopback(site)) == (0, [True, True])
    assert [is_confined(server, unit) for unit in UNITS] == [False, False]
    assert Client(operator, DOMAIN, root).ports(8000, 8001, 443) != {8000: "open", 8001: "open", 443: "open"}


def assert_issued_for_both(site: Site) -> None:
    """Mode acme: a name that DNS does not know is refused before the CA is asked; then both get a certificate."""
    operator = site.operator
    site.name()
    site.answer_acme()
    answer(site)
    document = operator.apply()
    assert (document["exit_code"], document["changed"]) == (3, False)
    assert [OTHER_NAME in said for said in findings(document, "blocked").values()] == [True]
    site.lab.gate.names.set(OTHER_NAME, f"A {site.server.address}")
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    for name, key, model in ((DOMAIN, FIRST_KEY, "phi-4-mini"), (OTHER_NAME, OTHER_KEY, "embed")):
        assert Client(operator, name, site.acme.issuing_root).models("/v1", key) == [model]
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
