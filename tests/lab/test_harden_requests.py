"""What Caddy limits of requests, seen from another machine: on, off again, and taken back."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.machine import Result
from tests.lab.operator import Operator, changes_of, findings, troubles
from tests.lab.space import FAR, Deadline
from tests.lab.spec import CANARY

pytestmark = pytest.mark.lab

LIMITS = {"max_body": "1MB", "max_requests": 3, "slow_clients": True}
CADDYFILE = "/etc/caddy/Caddyfile"
CHAT, SENT = "/v1/chat/completions", ("-H", "Expect:", "--data-binary", "@-")
ASKED = {"model": "phi-4-mini", "messages": [{"role": "user", "content": "x"}]}
LARGE = json.dumps({**ASKED, "messages": [{"role": "user", "content": "x" * 1_100_000}]}).encode()
# Sends a request's head letter by letter, and says when it was cut off.
SLOW = """\
import socket, ssl, sys, time
context = ssl._create_unverified_context()
raw = socket.create_connection((sys.argv[1], 443), 5)
sent, begun = 0, time.monotonic()
with context.wrap_socket(raw, server_hostname=None) as connection:
    connection.settimeout(0.5)
    connection.sendall(b"GET /v1/models HTTP/1.1\\r\\nHost: " + sys.argv[1].encode() + b"\\r\\nX-Slow: ")
    while time.monotonic() - begun < 20:
        try:
            connection.sendall(b"a")
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
print(round(time.monotonic() - begun))
"""


@pytest.fixture(scope="module")
def operator(lab: Lab, program: object) -> Iterator[Operator]:
    server = lab.boot(ServerSpec(guide_packages=True, layers=(program,)))  # type: ignore[arg-type]
    found = Operator(lab, server)
    found.answer(tls={"mode": "internal"}, harden=LIMITS)
    document = found.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert [step["id"] for step in document["steps"]][-2:] == ["harden", "https_test"]
    yield found
    server.discard()


def curl(operator: Operator, path: str, *words: str, stdin: bytes = b"") -> Result:
    """A request from outside with the key; its answer with its head."""
    bearer = ("-H", f"Authorization: Bearer {CANARY}")
    argv = ["curl", "-sk", "-i", "-m", "30", *bearer, *words, f"https://{operator.server.address}{path}"]
    return operator.lab.outside.run(argv, check=False, stdin=stdin)


def status(answer: str) -> int:
    return int(answer.split()[1])


def error(answer: str) -> dict[str, object]:
    """The error as OpenAI's clients read it."""
    found = json.loads(answer.partition("\r\n\r\n")[2])["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return dict(found)


def test_what_is_too_large_too_slow_or_loads_files_is_refused_in_words_of_openai(operator: Operator) -> None:
    for words in (("--http1.1",), ("--http1.1", "-H", "Transfer-Encoding: chunked")):
        answer = curl(operator, CHAT, *words, *SENT, stdin=LARGE).stdout
        assert status(answer) == 413 and error(answer)["code"] == 413
    small = LARGE.replace(b"x" * 200_000, b"")
    assert status(curl(operator, CHAT, *SENT, stdin=small).stdout) == 200
    assert status(curl(operator, "/v1/models", "--http1.1", "-H", f"X-Long: {'x' * 60_000}").stdout) == 431
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1//load_lora_adapter", "/V1/Load_lora_adapter"):
        answer = curl(operator, path, "-d", "{}").stdout
        assert (status(answer), error(answer)["type"]) == (404, "proxy_error"), path
    seconds = int(operator.lab.outside.run(["python3", "-c", SLOW, operator.server.address], timeout=60).stdout)
    assert 8 <= seconds <= 14


def test_one_request_more_than_vllm_is_to_have_gets_503_at_once_and_is_told_to_come_again(operator: Operator) -> None:
    operator.server.standin(token_ms=1000)
    stream = json.dumps({**ASKED, "stream": True, "max_tokens": 20})
    argv = ["curl", "-skN", "-m", "30", "-H", f"Authorization: Bearer {CANARY}", "-d", stream]
    url = f"https://{operator.server.address}{CHAT}"
    with ExitStack() as streams:
        for _ in range(3):
            streams.callback(streams.enter_context(operator.server.outside_popen([*argv, url])).kill)
        time.sleep(1.5)
        began = time.monotonic()
        answer = curl(operator, "/v1/models").stdout
        assert time.monotonic() - began < 5, "not after the streams"
        assert status(answer) == 503 and error(answer)["code"] == 503
        assert "retry-after: 5" in answer.lower()
    operator.server.standin(token_ms=5)
    until = Deadline("a place for one request", 20)
    while status(curl(operator, "/v1/models").stdout) != 200:
        until.tick(0.2)


def test_down_vllm_is_told_at_once_and_comes_back_by_itself(operator: Operator) -> None:
    operator.server.run(["systemctl", "stop", "vllm.service"])
    began = time.monotonic()
    answer = curl(operator, "/v1/models").stdout
    assert status(answer) == 502 and error(answer)["code"] == 502 and "retry-after: 5" in answer.lower()
    assert time.monotonic() - began < 3
    operator.server.run(["systemctl", "start", "vllm.service"])
    operator.server.wait_until_up()
    assert status(curl(operator, "/v1/models").stdout) == 200


def test_who_is_not_allowed_gets_403_with_any_key(operator: Operator) -> None:
    operator.answer(tls={"mode": "internal"}, harden={**LIMITS, "allow_from": ["203.0.113.0/24"]})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert "harden.own_address" in findings(document, "warn")
    answer = curl(operator, "/v1/models").stdout
    assert status(answer) == 403 and error(answer)["code"] == 403
    operator.answer(tls={"mode": "internal"}, harden={**LIMITS, "allow_from": [FAR, "10.91.0.0/16"]})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert findings(document, "warn") == {}
    assert status(curl(operator, "/v1/models").stdout) == 200
    assert changes_of(operator.apply()) == []


def test_limit_that_the_packages_caddy_has_no_module_for_is_said_and_never_written(operator: Operator) -> None:
    """Not even where the module was there: a Caddy that lost it does not start, and is brought back without."""
    before = operator.file(CADDYFILE) or b""
    limits = {**LIMITS, "allow_from": [FAR, "10.91.0.0/16"]}
    operator.answer(tls={"mode": "internal"}, harden={**limits, "requests_per_minute": 120})
    document = operator.apply()
    assert (document["exit_code"], changes_of(document)) == (0, [])
    told = findings(document, "warn")["harden.requests_per_minute"]
    assert "/usr/bin/caddy has no module for it (http.handlers.rate_limit)" in told
    assert "harden: {new_connections_per_minute: 120}" in told
    assert operator.file(CADDYFILE) == before
    limited = before.replace(
        b"\t\treverse_proxy", b"\t\troute {\n\t\t\trate_limit {\n\t\t\t}\n\t\t}\n\t\treverse_proxy"
    )
    operator.server.put(CADDYFILE, limited)
    assert operator.server.run(["systemctl", "restart", "caddy.service"], check=False).code != 0
    document = operator.ask("repair")
    assert (document["exit_code"], operator.file(CADDYFILE)) == (0, before), troubles(document)
    assert status(curl(operator, "/v1/models").stdout) == 200


def test_what_is_turned_off_is_gone_and_no_step_speaks_of_it(operator: Operator) -> None:
    operator.answer(tls={"mode": "internal"})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert "harden" not in [step["id"] for step in document["steps"]]
    assert status(curl(operator, CHAT, *SENT, stdin=LARGE).stdout) == 200
    assert operator.say("uninstall --yes --keep-bind").code == 0
    assert b"reverse_proxy" not in (operator.file("/etc/caddy/Caddyfile") or b"")
