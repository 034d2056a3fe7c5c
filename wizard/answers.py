"""The answers file: what it says, its defaults, its JSON Schema, and all its errors with their lines."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.fields import FieldInfo

from wizard import answers_values as values
from wizard import answers_words as words
from wizard import answers_yaml as yaml
from wizard.answers_file import AnswerProblem, AnswersError, read
from wizard.answers_harden import Harden
from wizard.answers_sections import (
    NEEDS,
    READS,
    AllowRule,
    Caddy,
    Expected,
    Firewall,
    Further,
    Preflight,
    Proxy,
    Section,
    Test,
    Tls,
    Vllm,
)

__all__ = [
    "AllowRule",
    "AnswerProblem",
    "Answers",
    "AnswersError",
    "Caddy",
    "Firewall",
    "Further",
    "Harden",
    "Preflight",
    "Proxy",
    "Test",
    "Tls",
    "Vllm",
    "dump",
    "example",
    "load",
    "read",
    "schema",
    "unused",
]


@dataclass(frozen=True)
class Conflict:
    """Answers that are each right and cannot be together; `cause` is the key that makes it so."""

    path: yaml.Path
    message: str
    expected: str
    cause: yaml.Path = ()


def _version(number: int) -> int:
    if number != 1:
        raise values.Wrong(f"this program cannot read version {number}", "1")
    return number


class Answers(Section):
    """All answers. No secret is among them: the API key stays in vLLM's env file."""

    version: Annotated[
        int,
        AfterValidator(_version),
        WithJsonSchema({"type": "integer", "const": 1}),
        Expected("1"),
    ] = Field(description="of this file's format")
    preflight: Preflight = Preflight()
    vllm: Vllm = Vllm()
    firewall: Firewall = Firewall()
    tls: Tls
    caddy: Caddy = Caddy()
    proxy: Proxy = Proxy()
    harden: Harden = Harden()
    test: Test = Test()

    @classmethod
    def defaults(cls) -> Self:
        """What a server that was never set up is looked at with: every default, mode internal."""
        return cls(version=1, tls=Tls(mode="internal"))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = [f"{yaml.key_name(each.path)}: {each.message}" for each in conflicts(self.model_dump(by_alias=True))]
        if found:
            raise values.Wrong("; ".join(found))
        return self


def load(text: bytes) -> Answers:
    """The answers that the file's text gives. Raises AnswersError with every error of it at once."""
    tree = yaml.parse(text)
    if tree.data is None and tree.problems:
        raise AnswersError(tuple(tree.problems))
    answers, found = None, list[AnswerProblem]()
    try:
        answers = Answers.model_validate(tree.data)
    except ValidationError as error:
        found += words.problems(error, tree, Answers)
    found += words.hidden_problems(tree, Answers, {problem.key for problem in found})
    for each in conflicts(tree.data):
        line = tree.lines.get(each.path) or tree.line(each.cause or each.path)
        found.append(AnswerProblem(line, yaml.key_name(each.path), each.message, each.expected))
    # Where the text of a value is refused, or the value itself, what else follows from it would only confuse.
    problems = {(problem.line, problem.key): problem for problem in reversed(tree.problems)}
    told = {problem.key for problem in tree.problems}
    for problem in found:
        if problem.key not in told:
            problems[problem.line, problem.key] = problem
            told.add(problem.key)
    if answers is None or problems:
        raise AnswersError(tuple(sorted(problems.values(), key=lambda each: (each.line or 0, each.key))))
    return answers


def dump(answers: Answers) -> str:
    """YAML text that `load` turns into the same answers: version, mode, and what is not the default."""
    return yaml.write({"version": 1} | answers.model_dump(by_alias=True, exclude_defaults=True))


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the answers file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Answers.model_json_schema()}


def example() -> str:
    """An annotated answers file of every key, that `load` accepts: the defaults, mode internal."""
    lines = ["# The answers of vllm-https-setup (YAML 1.2). Required: version, tls.mode, and what that mode needs."]
    lines += ["# A line that begins with # and a key is an example. No secret is ever an answer."]
    for name in Answers.model_fields:
        section = words.section_at((name,), Answers)
        if section is None:
            lines += [f"{name}: 1"]
            continue
        lines += ["", f"# {inspect.getdoc(section)}", f"{name}:"]
        for key, inner in section.model_fields.items():
            lines += [f"  {line}" for line in _annotated(key, inner)]
    return "\n".join(lines) + "\n"


def _annotated(key: str, field: FieldInfo) -> Iterator[str]:
    """The key's comment and line; as a comment too where it has no default."""
    such = yaml.write_inline({key: field.examples[0]}).partition(": ")[2] if field.examples else ""
    comment = f"{field.description}; such as {such}" if such and field.default is not None else field.description
    yield from textwrap.wrap(comment or key, 100, initial_indent="# ", subsequent_indent="#   ")
    if field.default is None:
        yield f"# {key}: {such}"
    else:
        yield yaml.write({key: "internal" if key == "mode" else field.default}).strip()


def unused(answers: Answers) -> tuple[str, ...]:
    """Keys that were answered though the mode does not read them, such as tls.email in mode internal."""
    read_by_some = {key for keys in READS.values() for key in keys}
    given = answers.tls.model_dump(exclude_defaults=True)
    return tuple(f"tls.{key}" for key in given if key in read_by_some and key not in READS[answers.tls.mode])


def conflicts(data: Any) -> Iterator[Conflict]:
    """What cannot be together. Takes any data, right or not, so that one error hides no other."""
    yield from _mode_conflicts(_section(data, "tls"))
    vllm, firewall = _section(data, "vllm"), _section(data, "firewall")
    yield from _port_conflicts({("vllm", "port"): vllm.get("port"), **_of_more(vllm, "port")}, firewall)
    yield from _model_conflicts(vllm, _section(data, "tls"))
    yield from _ban_conflicts(_section(data, "harden"), _section(data, "proxy"))
    yield from _metrics_conflicts(data)


def _mode_conflicts(tls: dict[str, Any]) -> Iterator[Conflict]:
    mode, cause = tls.get("mode"), ("tls", "mode")
    for key in NEEDS.get(mode, ()) if isinstance(mode, str) else ():
        if tls.get(key) is None:
            field = Tls.model_fields[key]
            yield Conflict(("tls", key), f"mode {mode} needs this key", words.expected(field) or key, cause)
    certificate = tls.get("certificate")
    if mode == "custom" and isinstance(certificate, str) and certificate == tls.get("private_key"):
        message = "this is also the certificate's file, which everybody may read once it is installed"
        yield Conflict(("tls", "private_key"), message, "two files: one with the chain, one with the key")


def _port_conflicts(ports: dict[yaml.Path, Any], firewall: dict[str, Any]) -> Iterator[Conflict]:
    """`ports` are those of vLLM's services, by their keys."""
    ssh, allow = firewall.get("ssh_ports"), firewall.get("allow")
    for path, port in ports.items():
        if isinstance(ssh, tuple) and isinstance(port, int) and port in ssh:
            yield Conflict(path, f"port {port} is also an SSH port", "the port of vLLM")
    if not isinstance(allow, tuple):
        return
    if firewall.get("manage") is False and allow:
        message = "rules cannot be made in a firewall that is not managed"
        yield Conflict(("firewall", "allow"), message, "firewall.manage: true, or no rules")
    for number, rule in enumerate(allow):
        if not isinstance(rule, dict) or rule.get("protocol", "tcp") != "tcp":
            continue
        for port in ports.values():
            if _covers(rule.get("port"), port):
                message = f"this rule lets others reach vLLM's own port {port} around the proxy"
                yield Conflict(("firewall", "allow", number, "port"), message, "no rule for that port")


def _model_conflicts(vllm: dict[str, Any], tls: dict[str, Any]) -> Iterator[Conflict]:
    """Services that share what each needs for itself; and one that clients could not find, or by two ways."""
    internal = tls.get("mode") == "internal"
    listed = tls.get("hosts") if internal else (tls.get("domain"),)
    hosts = [_name(one) for one in listed] if isinstance(listed, tuple) else []
    for key, first, right in (
        ("unit", vllm.get("unit", "vllm.service"), "another service"),
        ("port", vllm.get("port"), "the port of this service"),
        ("path", None, "another path"),
        ("host", None, "another name, that leads to this server, too"),
    ):
        seen = hosts if key == "host" else [first]
        for path, given in _of_more(vllm, key).items():
            if given in (None, "auto"):
                continue
            value = _name(given) if key == "host" else given
            if value in seen:
                yield Conflict(path, f"another of the services has {value}", right)
            seen.append(value)
    paths = _of_more(vllm, "path")
    for path, host in _of_more(vllm, "host").items():
        both = (host is not None) + (paths[*path[:-1], "path"] is not None)
        if both != 1:
            message = "it has a path and a host" if both else "it has neither a path nor a host"
            yield Conflict(path[:-1], message, "one of them, such as path: embed")


def _name(given: Any) -> Any:
    """A host as it will be compared; what is none stays as it is."""
    try:
        return values.host(given) if isinstance(given, str) else given
    except values.Wrong:
        return given


def _of_more(vllm: dict[str, Any], key: str) -> dict[yaml.Path, Any]:
    """A key of each further service, by its place."""
    more = vllm.get("more")
    items = enumerate(more) if isinstance(more, tuple) else ()
    return {("vllm", "more", number, key): one.get(key) for number, one in items if isinstance(one, dict)}


def _ban_conflicts(harden: dict[str, Any], proxy: dict[str, Any]) -> Iterator[Conflict]:
    bans = harden.get("ban_wrong_keys", "auto")
    wanted = bans is True or (bans == "auto" and harden.get("recommended") is True)
    if wanted and proxy.get("access_log") is False:
        message = "wrong keys are found in the access log, and proxy.access_log switches that off"
        yield Conflict(
            ("harden", "ban_wrong_keys"), message, "false, or proxy.access_log: true", ("proxy", "access_log")
        )


def _metrics_conflicts(data: Any) -> Iterator[Conflict]:
    harden = _section(data, "harden")
    scrapers, port = harden.get("metrics_from"), harden.get("metrics_port", Harden().metrics_port)
    if not isinstance(scrapers, tuple) or not scrapers:
        return
    for number, network in enumerate(scrapers):
        if isinstance(network, str) and network.endswith("/0"):
            message = "this is everybody, and metrics are for nobody else than who collects them"
            yield Conflict(("harden", "metrics_from", number), message, "the addresses of your scrapers")
    vllm, ssh = _section(data, "vllm").get("port"), _section(data, "firewall").get("ssh_ports")
    taken = {80: "the web's", 443: "the web's", 2019: "Caddy's admin endpoint's"}
    further = [one for one in _of_more(_section(data, "vllm"), "port").values() if isinstance(one, int)]
    taken |= dict.fromkeys((vllm if isinstance(vllm, int) else 8000, *further), "vLLM's")
    taken |= dict.fromkeys(ssh if isinstance(ssh, tuple) else (22,), "SSH's")
    if isinstance(port, int) and port in taken:
        message = f"port {port} is {taken[port]} already"
        cause = ("harden", "metrics_from")
        yield Conflict(("harden", "metrics_port"), message, "a port that nothing else listens on, such as 9180", cause)


def _covers(ports: Any, port: Any) -> bool:
    """Whether a rule's port or range holds the port. False where either is no such thing."""
    if not isinstance(port, int) or isinstance(port, bool):
        return False
    if isinstance(ports, str) and re.fullmatch(values.PORT_RANGE, ports):
        low, high = map(int, ports.split(":"))
        return low <= port <= high
    return isinstance(ports, int) and ports == port


def _section(data: Any, name: str) -> dict[str, Any]:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
