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
    yield from _port_conflicts(_section(data, "vllm").get("port"), _section(data, "firewall"))
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


def _port_conflicts(vllm: Any, firewall: dict[str, Any]) -> Iterator[Conflict]:
    ssh, allow = firewall.get("ssh_ports"), firewall.get("allow")
    if isinstance(ssh, tuple) and isinstance(vllm, int) and vllm in ssh:
        yield Conflict(("vllm", "port"), f"port {vllm} is also an SSH port", "the port of vLLM")
    if not isinstance(allow, tuple):
        return
    if firewall.get("manage") is False and allow:
        message = "rules cannot be made in a firewall that is not managed"
        yield Conflict(("firewall", "allow"), message, "firewall.manage: true, or no rules")
    for number, rule in enumerate(allow):
        if isinstance(rule, dict) and rule.get("protocol", "tcp") == "tcp" and _covers(rule.get("port"), vllm):
            message = f"this rule lets others reach vLLM's own port {vllm} around the proxy"
            yield Conflict(("firewall", "allow", number, "port"), message, "no rule for that port")


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
    taken |= {vllm if isinstance(vllm, int) else 8000: "vLLM's"}
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
