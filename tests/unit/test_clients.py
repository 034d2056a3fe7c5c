"""What a client is given is right as it stands: the shell and Python take it, and no key is in it."""

from __future__ import annotations

import ast
import json
import shlex
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import scenario
from tests.servers.recording import CANARY
from wizard import answers as answers_file
from wizard.answers import Answers
from wizard.clients import TRUST, checks, summarize, text
from wizard.engine import planned
from wizard.mask import Mask
from wizard.model import Endpoint, Report
from wizard.model import TestRow as Row
from wizard.report import document_of

ACME = b"version: 1\ntls: {mode: acme, domain: llm.example.com, email: ops@example.com}\n"
INTERNAL = b"version: 1\ntls: {mode: internal}\n"
MODELS = ["phi-4-mini", "org/Model 'quoted' \"twice\"", "a\\b$HOME`id`", "modèle", "a\nb\x1b[31m\x9b1m", "\ud800"]
# Stands for the programs that a snippet calls: prints the words that they are given.
SAYS_WORDS = "curl() { printf '%s\\0' \"$@\"; }; scp() { printf '%s\\0' \"$@\"; }; sudo() { printf '%s\\0' \"$@\"; }\n"


def report(
    model: str | None = "phi-4-mini", base_url: str = "https://10.91.1.5/v1", *rows: Row, ca: bool = True
) -> dict[str, Any]:
    server = scenario.load("finished")
    return document_of(
        Report(
            "apply",
            0,
            steps=planned(server.planned()),
            tests=rows or server.tested(),
            endpoint=Endpoint(base_url, model, "/etc/vllm-https-setup/root.crt" if ca else None),
            log_path="/var/log/vllm-https-setup/20261124T101500Z-1f3a.log",
        ),
        Mask(),
    )


def answers(text: bytes = INTERNAL) -> Answers:
    return answers_file.load(text)


def words_of(snippet: str) -> list[str]:
    """The words that the program gets when a shell runs the snippet."""
    environment = {"VLLM_API_KEY": "sk-of-the-client", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        ["bash", "-euc", SAYS_WORDS + snippet], env=environment, capture_output=True, text=True, check=True
    )
    return ended.stdout.split("\0")[:-1]


def arguments_of(code: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the SDK's client, and then its call, get when the snippet is run."""
    called: list[dict[str, Any]] = []
    answer = SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(content="Bonjour"))], data=[SimpleNamespace(embedding=[1])]
    )

    def ask(**given: Any) -> SimpleNamespace:
        called.append(given)
        return answer

    def make(**given: Any) -> SimpleNamespace:
        called.append(given)
        create = SimpleNamespace(create=ask)
        return SimpleNamespace(chat=SimpleNamespace(completions=create), embeddings=create)

    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=make, DefaultHttpxClient=dict))
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: f"trusts {cafile}")
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-the-client")
    exec(compile(code, "snippet", "exec"), {})
    return called[0], called[1]


@pytest.mark.allow_commands("bash")
@pytest.mark.parametrize("model", MODELS)
def test_shell_takes_the_curl_snippet(model: str) -> None:
    words = words_of(summarize(report(model), answers()).curl)
    assert words[:3] == ["https://10.91.1.5/v1/chat/completions", "--cacert", "root.crt"]
    assert "Authorization: Bearer sk-of-the-client" in words
    assert json.loads(words[words.index("-d") + 1])["model"] == model


@pytest.mark.parametrize("model", MODELS)
def test_python_takes_the_sdk_snippet(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, call = arguments_of(summarize(report(model), answers()).python, monkeypatch)
    assert client == {
        "base_url": "https://10.91.1.5/v1",
        "api_key": "sk-of-the-client",
        "http_client": {"verify": "trusts root.crt"},
    }
    assert call["model"] == model and call["messages"][0]["role"] == "user"


@pytest.mark.allow_commands("bash")
def test_an_embedding_model_is_asked_for_an_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("api.chat", True, "an embedding of 768 numbers", 1)
    summary = summarize(report("e5", "https://10.91.1.5/v1", row), answers())
    words = words_of(summary.curl)
    assert words[0] == "https://10.91.1.5/v1/embeddings"
    assert set(json.loads(words[-1])) == {"model", "input"}
    assert set(arguments_of(summary.python, monkeypatch)[1]) == {"model", "input"}


def test_public_certificate_needs_no_root() -> None:
    summary = summarize(report(base_url="https://llm.example.com/v1", ca=False), answers(ACME))
    assert (summary.ca_file, summary.fetch_root, summary.trust) == (None, "", ())
    assert "root.crt" not in text(summary) and "ssl" not in summary.python
    assert summary.laptop == 'curl https://llm.example.com/v1/models -H "Authorization: Bearer $VLLM_API_KEY"'


def test_private_one_says_how_it_is_trusted_everywhere() -> None:
    summary = summarize(report(), answers())
    assert summary.fetch_root == "scp USER@10.91.1.5:/etc/vllm-https-setup/root.crt ."
    assert "--cacert root.crt" in summary.laptop
    assert [system for system, _ in summary.trust] == [
        *("Ubuntu, Debian", "Fedora, RHEL", "macOS", "Windows, as administrator", "Python", "Node", "curl"),
    ]
    assert all(command in text(summary) for _, command in summary.trust)


def test_finding_of_the_root_has_the_same_words() -> None:
    found = [finding for result in scenario.load("finished").planned() for finding in result.seen]
    root = next(one for one in found if one.key == "tls.root")
    assert root.evidence == {"trust": dict(TRUST)}


def test_page_for_clients_has_the_same_words() -> None:
    """Each way as it is shown, and whether it was tried."""
    lines = (Path(__file__).resolve().parents[2] / "docs/clients.md").read_text().splitlines()
    rows = {cells[0]: cells for line in lines if len(cells := [one.strip() for one in line.strip("|").split("|")]) == 3}
    for system, command in TRUST:
        assert rows[system][1] == f"`{command}`"
        assert rows[system][2].split(":")[0] in ("by the tests", "by hand", "no")


@pytest.mark.allow_commands("bash")
def test_ipv6_endpoint_is_quoted() -> None:
    summary = summarize(report(base_url="https://[fd91::5]/v1"), answers())
    assert words_of(summary.laptop)[0] == "https://[fd91::5]/v1/models"
    assert words_of(summary.fetch_root) == ["USER@[fd91::5]:/etc/vllm-https-setup/root.crt", "."]


def test_root_is_fetched_by_the_ssh_port_that_was_found() -> None:
    document = report()
    for finding in (one for step in document["steps"] for one in step["findings"] if one["key"] == "preflight.ssh"):
        finding["evidence"] = {"ports": {"2222": ["sshd listens on it"]}}
    fetch = summarize(document, answers(), user="ops").fetch_root
    assert fetch == "scp -P 2222 ops@10.91.1.5:/etc/vllm-https-setup/root.crt ."


def test_key_is_where_it_was_found_or_where_the_caller_or_the_answers_say() -> None:
    document, named = report(), answers(INTERNAL + b"vllm: {env_file: /srv/other.env}\n")
    assert summarize(document, answers()).key_command == "sudo grep VLLM_API_KEY /etc/vllm/vllm.env"
    assert summarize({**document, "steps": []}, answers()).key_command.endswith(" /etc/vllm/vllm.env")
    assert summarize(document, named).key_command.endswith(" /srv/other.env")
    assert summarize(document, answers(), env_file="/a b").key_command.endswith(" '/a b'")


def test_no_model_leaves_a_gap_to_fill() -> None:
    summary = summarize(report(None), answers())
    assert summary.model == "MODEL" and '"model": "MODEL"' in summary.curl


@pytest.mark.parametrize("mode", [INTERNAL, ACME])
def test_text_is_plain_narrow_and_complete(mode: bytes) -> None:
    summary = summarize(report(ca=mode is INTERNAL), answers(mode))
    shown = text(summary)
    wide = {
        *summary.curl.splitlines(),
        *summary.python.splitlines(),
        summary.laptop,
        *(two for _, two in summary.trust),
    }
    assert [line for line in shown.splitlines() if len(line) > 79 and line not in wide] == []
    assert shown.isascii() or mode is INTERNAL
    assert shown.endswith("\n") and "\n\n\n" not in shown and "\x1b" not in shown
    for part in (summary.base_url, summary.model, summary.key_command, summary.undo, summary.log, summary.fetch_root):
        assert part in shown
    # What is pasted from it begins at the margin.
    assert f"\n{summary.curl}\n" in shown and f"\n{summary.python}\n" in shown


def test_key_is_in_nothing_of_it() -> None:
    look = scenario.load("finished").look()
    look.mask.add(CANARY)
    shown = text(summarize(report(), look.answers))
    assert CANARY not in shown and "$VLLM_API_KEY" in shown


@given(st.text(), st.text())
def test_names_from_the_machine_drive_no_terminal(model: str, path: str) -> None:
    summary = summarize(
        {
            "steps": [],
            "tests": [],
            "endpoint": {"base_url": "https://a/v1", "model": model, "ca_file": None},
            "log_path": None,
        },
        answers(ACME),
        env_file=path,
    )
    assert all(one.isprintable() or one == "\n" for one in text(summary))
    assert shlex.split(summary.curl)[0] == "curl"
    ast.parse(summary.python.encode("utf-8", "surrogatepass"))


# ── what was proved ──


def test_finished_server_has_every_claim() -> None:
    assert checks(report(), "internal") == (
        (True, "trusted certificate"),
        (True, "answers with your key, streams"),
        (True, "401 without a key"),
        (True, "port 8000 closed, proved by packets"),
        (True, "only /v1 is exposed"),
        (True, "renews itself"),
    )


def test_own_certificate_does_not_renew_itself() -> None:
    assert checks(report(), "custom")[-1] == (True, "renewed files are taken up")


@pytest.mark.parametrize("name", [row.id for row in scenario.load("finished").tested()] + ["http.redirect"])
def test_each_row_that_fails_is_said(name: str) -> None:
    rows = [row for row in scenario.load("finished").tested() if row.id != name]
    failed = report("phi-4-mini", "https://10.91.1.5/v1", *rows, Row(name, False, "as it happened", 1))
    found = checks(failed, "acme")
    assert [ok for ok, _ in found].count(False) == (2 if name == "tls.handshake" else 1)
    claims = {words for _, words in checks(report(), "acme")}
    assert not {words for ok, words in found if ok is not True} & claims


def test_what_was_not_tried_is_not_claimed() -> None:
    rows = [Row("tls.trusted", None, "the root is not known", 1), Row("tls.handshake", True, "TLSv1.3", 1)]
    found = {words: ok for ok, words in checks(report("m", "https://a/v1", *rows), "acme")}
    assert found["not tried: trusted certificate"] is None
    assert found["not tried: 401 without a key"] is None
    assert found["renews itself"] is True


@pytest.mark.parametrize(("streamed", "said"), [(None, ""), (True, ", streams")])
def test_streaming_is_claimed_only_where_it_was_seen(streamed: bool | None, said: str) -> None:
    rows = [Row("api.models", True, "200", 1), Row("api.chat", True, "answered", 1), Row("api.stream", streamed, "", 1)]
    assert (True, f"answers with your key{said}") in checks(report("m", "https://a/v1", *rows), "acme")
