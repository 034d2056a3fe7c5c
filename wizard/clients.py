"""What a client needs, as text to copy: address, model, where the key is, how the certificate is trusted. No key is
ever in it: snippets say $VLLM_API_KEY."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .mask import strip_control
from .paths import NAME

if TYPE_CHECKING:
    from .answers import Answers

Document = dict[str, Any]
ENV_FILE = "/etc/vllm/vllm.env"  # the guide's; for a document that does not say where the key was found
ROOT = "root.crt"
LAUNCHED = "preflight.launch_script"
PROMPT = "Say hello in French"
# How each system, or program, is told to trust the root certificate that lies in its working directory.
TRUST = (
    ("Ubuntu, Debian", f"sudo cp {ROOT} /usr/local/share/ca-certificates/vllm.crt && sudo update-ca-certificates"),
    ("Fedora, RHEL", f"sudo cp {ROOT} /etc/pki/ca-trust/source/anchors/vllm.crt && sudo update-ca-trust"),
    ("macOS", f"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ROOT}"),
    ("Windows, as administrator", f"certutil -addstore -f Root {ROOT}"),
    ("Python", f"SSL_CERT_FILE={ROOT} REQUESTS_CA_BUNDLE={ROOT} python your-program.py"),
    ("Node", f"NODE_EXTRA_CA_CERTS={ROOT} node your-program.js"),
    ("curl", f"curl --cacert {ROOT} https://…"),
)


@dataclass(frozen=True)
class Summary:
    """`fetch_root` and `trust` are empty where clients trust the certificate anyway (modes acme and custom). `more`
    are further services: base URL, model, and how its key is shown."""

    base_url: str
    model: str
    ca_file: str | None
    curl: str
    python: str
    laptop: str
    key_command: str
    fetch_root: str
    trust: tuple[tuple[str, str], ...]
    undo: str
    log: str
    more: tuple[tuple[str, str, str], ...] = ()


def summarize(document: Document, answers: Answers, *, env_file: str = "", user: str = "USER") -> Summary:
    """The summary of a report. `env_file` is where the key is; "": where the answers or the report say."""
    endpoint = document["endpoint"]
    base_url, model = endpoint["base_url"], endpoint["model"] or "MODEL"
    ca_file = endpoint["ca_file"] if answers.tls.mode == "internal" else None
    embeds = _detail(document, "api.chat").startswith("an embedding")
    key_file = env_file or _env_file(document, answers)
    return Summary(
        base_url=base_url,
        model=_plain(model),
        ca_file=ca_file,
        curl=_curl(base_url, model, root=ca_file is not None, embeds=embeds),
        python=_python(base_url, model, root=ca_file is not None, embeds=embeds),
        laptop=" ".join(_curl_words(f"{base_url}/models", root=ca_file is not None)),
        key_command=_show_key(key_file),
        fetch_root=_fetch(document, ca_file, user) if ca_file else "",
        trust=TRUST if ca_file else (),
        undo=f"sudo {NAME} rollback",
        log=document["log_path"] or "",
        more=tuple(_more(document, answers)),
    )


def _show_key(file: str) -> str:
    return f"sudo grep VLLM_API_KEY {shlex.quote(_plain(file))}"


def _more(document: Document, answers: Answers) -> Iterator[tuple[str, str, str]]:
    """Further services; where the key of one is was found by its unit."""
    for one, service in zip(document["endpoint"].get("more", ()), answers.vllm.more, strict=False):
        found = _evidence(document, "preflight.api_key", unit=service.unit).get("env_file", ENV_FILE)
        file = service.env_file if service.env_file != "auto" else str(found)
        yield one["base_url"], _plain(one["model"] or "MODEL"), _show_key(file)


def _plain(name: str) -> str:
    """One line that any terminal and file takes."""
    return "".join(one for one in strip_control(name) if one.isprintable())


def _evidence(document: Document, key: str, **has: str) -> dict[str, Any]:
    """Of the first finding with this key, and with this in its evidence."""
    findings = (finding for step in document["steps"] for finding in step["findings"])
    found = (dict(one["evidence"]) for one in findings if one["key"] == key)
    return next((one for one in found if has.items() <= one.items()), {})


def _detail(document: Document, row: str) -> str:
    return next((str(one["detail"]) for one in document["tests"] if one["id"] == row), "")


def _env_file(document: Document, answers: Answers) -> str:
    if answers.vllm.env_file != "auto":
        return answers.vllm.env_file
    return str(_evidence(document, "preflight.api_key").get("env_file", ENV_FILE))


def _curl_words(url: str, *, root: bool) -> Iterator[str]:
    yield f"curl {shlex.quote(url)}"
    if root:
        yield f"--cacert {ROOT}"
    yield '-H "Authorization: Bearer $VLLM_API_KEY"'


def _curl(base_url: str, model: str, *, root: bool, embeds: bool) -> str:
    asked: dict[str, Any] = {"model": model}
    asked |= {"input": PROMPT} if embeds else {"messages": [{"role": "user", "content": PROMPT}]}
    # An unprintable sign is written as its number: it can neither be lost nor drive a terminal.
    body = json.dumps(asked, ensure_ascii=not model.isprintable())
    words = [
        *_curl_words(f"{base_url}/{'embeddings' if embeds else 'chat/completions'}", root=root),
        '-H "Content-Type: application/json"',
        f"-d {shlex.quote(body)}",
    ]
    return " \\\n  ".join(words)


def _python(base_url: str, model: str, *, root: bool, embeds: bool) -> str:
    """For the OpenAI SDK. Its own HTTP client keeps the SDK's time limits where a root is given to it."""
    named = json.dumps(model, ensure_ascii=False) if model.isprintable() else repr(model)
    trusting = f'    http_client=DefaultHttpxClient(verify=ssl.create_default_context(cafile="{ROOT}")),'
    lines = [
        "import os",
        *(["import ssl"] if root else []),
        "",
        f"from openai import {'DefaultHttpxClient, ' if root else ''}OpenAI",
        "",
        "client = OpenAI(",
        f'    base_url="{base_url}",',
        '    api_key=os.environ["VLLM_API_KEY"],',
        *([trusting] if root else []),
        ")",
    ]
    if embeds:
        lines += [
            "answer = client.embeddings.create(",
            f"    model={named},",
            f'    input="{PROMPT}",',
            ")",
            "print(len(answer.data[0].embedding))",
        ]
    else:
        lines += [
            "answer = client.chat.completions.create(",
            f"    model={named},",
            f'    messages=[{{"role": "user", "content": "{PROMPT}"}}],',
            ")",
            "print(answer.choices[0].message.content)",
        ]
    return "\n".join(lines)


def _fetch(document: Document, ca_file: str, user: str) -> str:
    """By the SSH port that was found; the primary one of the endpoint's hosts is this server's address."""
    ports = list(_evidence(document, "preflight.ssh").get("ports", {"22": []}))
    port = f"-P {ports[0]} " if ports and "22" not in ports else ""
    host = urlsplit(document["endpoint"]["base_url"]).netloc
    return f"scp {port}{shlex.quote(f'{user}@{host}:{ca_file}')} ."


def text(summary: Summary) -> str:
    """What is printed when a wizard has ended, and saved to a file. Plain; only what is to be copied may be wide."""
    return "".join(f"{line}\n" for line in _lines(summary))


def _lines(summary: Summary) -> Iterator[str]:
    """Snippets begin at the margin: Python can be pasted from there alone."""
    yield from ("Your API is at", "", f"    {summary.base_url}", "")
    yield f"Model   {summary.model}"
    yield f"Key     {summary.key_command}"
    for base_url, model, key_command in summary.more:
        yield from ("", f"    {base_url}", "", f"Model   {model}", f"Key     {key_command}")
    if summary.more:
        yield ""
    if summary.log:
        yield f"Log     {summary.log}"
    yield f"Undo    {summary.undo}"
    if summary.fetch_root:
        title = "Clients know this server by its root certificate: copy it to each of them"
        yield from ("", f"# {title}", summary.fetch_root)
    yield from ("", "# Try it from your own computer, with the key in VLLM_API_KEY", summary.laptop)
    yield from ("", "# Ask the model", summary.curl)
    yield from ("", "# The same in Python: pip install openai", summary.python)
    if summary.trust:
        yield from ("", "# So that a system or a program trusts the root without being told each time")
        yield from (line for system, command in summary.trust for line in (f"# {system}:", command))


# ── what was proved ──

Check = tuple[bool | None, str]


def checks(document: Document, mode: str) -> tuple[Check, ...]:
    """What the rows of the final test come to, in few words: true, false, or (None) not tried.

    A row that no claim speaks of is added where it failed: a failure is never left out.
    """
    rows: dict[str, Document] = {row["id"]: row for row in document["tests"]}
    launched = [one for step in document["steps"] for one in step["findings"] if one["key"] == LAUNCHED]
    ports = [str(one["evidence"]["port"]) for one in launched if "port" in one["evidence"]]
    closed = f"port {' and '.join(ports)}" if ports else "vLLM's port"
    renews = "renewed files are taken up" if mode == "custom" else "renews itself"
    # Where it was too short to tell, or the model has none, nothing is claimed of streaming.
    streams = rows.get("api.stream", {}).get("ok")
    asked = ("api.models", "api.chat", *(() if streams is None else ("api.stream",)))
    claims = (
        (("tls.handshake", "tls.trusted"), "trusted certificate", "the certificate is not trusted"),
        (asked, f"answers with your key{', streams' if streams else ''}", "does not answer with your key as it should"),
        (("api.unauthorized",), "401 without a key", "no 401 without a key"),
        (("net.closed",), f"{closed} closed, proved by packets", f"{closed} is not closed"),
        (("api.blocked",), "only /v1 is exposed", "more than /v1 is exposed"),
        (("tls.handshake",), renews, "the certificate is not in order"),
    )
    found: list[Check] = []
    for names, claim, otherwise in claims:
        ok = _all([row["ok"] for one, row in rows.items() if of_any(one, names)])
        found.append((ok, {True: claim, False: otherwise, None: f"not tried: {claim}"}[ok]))
    known = {name for names, _, _ in claims for name in names}
    left = [row for name, row in rows.items() if not of_any(name, known) and row["ok"] is False]
    return (*found, *((False, f"{row['id']}: {row['detail']}") for row in left))


def of_any(name: str, names: Iterable[str]) -> bool:
    """Whether it is one of these rows, or that row of a further service."""
    return any(name == one or name.startswith(f"{one}.") for one in names)


def _all(found: list[bool | None]) -> bool | None:
    """False if any is, else None if any is or there are none."""
    if False in found:
        return False
    return None if None in found or not found else True
