"""The sections of the answers file: every key with its default, its words and its check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from wizard import answers_values as values


@dataclass(frozen=True)
class Expected:
    """What would be right for a key, in the words of an error message."""

    text: str


def _port_but(*taken: int) -> WithJsonSchema:
    ports: JsonDict = {"type": "integer", "minimum": 1, "maximum": 65535, "not": {"enum": [*taken]}}
    return WithJsonSchema(ports)


def same(text: str, shape: str, **more: int) -> WithJsonSchema:
    """The shape that the check goes by, for the JSON Schema."""
    return WithJsonSchema({"type": "string", "pattern": shape, **({"description": text} if text else {}), **more})


def _own_port(port: int) -> int:
    if port in _CADDYS:
        raise values.Wrong(f"port {port} is {_CADDYS[port]}", "another port; vLLM's own default is 8000")
    return port


def _ssh_port(port: int) -> int:
    if port in (80, 443):
        raise values.Wrong(f"port {port} is {_CADDYS[port]}", "the port that sshd listens on")
    return port


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """The items, where each is there once."""
    seen: set[Any] = set()
    for number, item in enumerate(items, 1):
        if item in seen:
            raise values.Wrong(f"item {number} repeats an earlier one", "each item once")
        seen.add(item)
    return items


def _distinct_rules(rules: tuple[AllowRule, ...]) -> tuple[AllowRule, ...]:
    """The rules, where no two differ by their comment alone: the firewall keeps one of them."""
    _distinct(tuple(rule.model_copy(update={"comment": ""}) for rule in rules))
    return rules


_CADDYS = {80: "Caddy's, for http", 443: "Caddy's, for https", 2019: "that of Caddy's admin endpoint"}

Auto = Literal["auto"]
Port = Annotated[int, Field(ge=1, le=65535)]
VllmPort = Annotated[int, Field(ge=1, le=65535), AfterValidator(_own_port), _port_but(*_CADDYS)]
SshPort = Annotated[int, Field(ge=1, le=65535), AfterValidator(_ssh_port), _port_but(80, 443)]
Path = Annotated[str, AfterValidator(values.path), same("an absolute path", values.PATH)]
Url = Annotated[str, AfterValidator(values.https_url), same("an https address", values.HTTPS_URL)]
Duration = Annotated[str, AfterValidator(values.duration), same("1s to 24h, such as 3600s or 10m", values.DURATION)]
PortRange = Annotated[str, AfterValidator(values.port_range), same("a range such as 6000:6010", values.PORT_RANGE)]
Domain = Annotated[str, AfterValidator(values.domain), same("one full name", values.DOMAIN)]
Host = Annotated[str, AfterValidator(values.host), same("a name or an IP address", values.HOST)]
Name = Annotated[str, AfterValidator(values.hostname), same("a name", values.HOST)]
Segment = Annotated[str, AfterValidator(values.segment), same("one part of a path", values.SEGMENT)]
Unit = Annotated[
    str, AfterValidator(values.unit), same("", values.UNIT), Expected("the name of a service, such as vllm.service")
]
Address = Annotated[str, AfterValidator(values.public_address), same("an IP address", values.ADDRESS)]
FindingKey = Annotated[str, AfterValidator(values.finding), same("a finding's key", values.FINDING)]
Once = AfterValidator(_distinct)
SshPorts = Annotated[tuple[SshPort, ...], Once]
UNIQUE: JsonDict = {"uniqueItems": True}


class Section(BaseModel):
    """Frozen; refuses unknown keys and wrong types (no text for a number, no 1 for true)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Preflight(Section):
    """What the first look may let pass."""

    accept: Annotated[tuple[FindingKey, ...], Once, Expected("a list of findings' keys, such as [preflight.gpu]")] = (
        Field(
            default=(),
            description='keys of findings, of any step, whose "blocked" becomes a warning',
            examples=[["preflight.gpu", "preflight.os"]],
            json_schema_extra=UNIQUE,
        )
    )


class Service(Section):
    """A service that runs vLLM, as it is installed now."""

    unit: Unit = Field(default="vllm.service", description="the systemd unit that runs vLLM")
    launch_script: Annotated[Path | Auto, Expected("auto, or an absolute path")] = Field(
        default="auto",
        description="auto: from the unit's ExecStart",
        examples=["/opt/vllm/start-vllm.sh"],
    )
    env_file: Annotated[Path | Auto, Expected("auto, or an absolute path")] = Field(
        default="auto",
        description="where the API key stays; auto: from the unit's EnvironmentFile",
        examples=["/etc/vllm/vllm.env"],
    )
    port: Annotated[VllmPort | Auto, Expected("auto, or a port from 1 to 65535")] = Field(
        default="auto",
        description="auto: from the launch command; 8000 where it says nothing",
        examples=[8000],
    )
    ready_timeout: Annotated[int, Expected("a number of seconds from 1 to 86400")] = Field(
        default=900, ge=1, le=86400, description="seconds to wait for the model to load"
    )


class Further(Service):
    """One more service that runs vLLM, found by clients under a path or a name of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [key], "properties": {key: {"type": "string"}}} for key in ("path", "host")]
        }
    )

    unit: Unit = Field(description="its systemd unit", examples=["vllm-embed.service"])
    path: Annotated[Segment | None, Expected("null, or one word such as embed")] = Field(
        default=None, description="served at https://HOST/PATH/v1", examples=["embed"]
    )
    host: Annotated[Name | None, Expected("null, or a name such as embed.example.com")] = Field(
        default=None, description="or at https://NAME/v1", examples=["embed.example.com"]
    )


class Vllm(Service):
    """The service that is secured, as it is installed now."""

    more: Annotated[
        tuple[Further, ...], Expected("a list of services, each with its unit, and a path or a host of its own")
    ] = Field(
        default=(),
        description="more services, each with its unit, and path or host",
        examples=[[{"unit": "vllm-embed.service", "path": "embed"}]],
    )


class AllowRule(Section):
    """One more rule of the firewall that lets something in."""

    port: Annotated[Port | PortRange, Expected("a port such as 9100, or a range such as 6000:6010")] = Field(
        description="a port, or a range as low:high", examples=[9100]
    )
    protocol: Annotated[Literal["tcp", "udp"], Expected("tcp or udp")] = Field(default="tcp", description="tcp or udp")
    from_: Annotated[
        str,
        AfterValidator(values.source),
        same("any, an address, or a network", values.NETWORK),
        Expected("any, an address, or a network such as 10.0.0.0/8"),
    ] = Field(
        default="any",
        validation_alias=AliasChoices("from", "from_"),
        serialization_alias="from",
        description="who may connect: a network, an address, or any",
        examples=["10.0.0.0/8"],
    )
    comment: Annotated[
        str,
        AfterValidator(values.comment),
        same("", values.COMMENT, maxLength=100),
        Expected("one line of at most 100 characters without '"),
    ] = Field(
        default="",
        max_length=100,
        description="what the rule is for; shown by ufw",
        examples=["node exporter"],
    )


class Firewall(Section):
    """ufw: who may connect to this server."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"manage": {"const": False}}, "required": ["manage"]},
            "then": {"properties": {"allow": {"maxItems": 0}}},
        }
    )

    manage: Annotated[bool, Expected("true or false")] = Field(
        default=True, description="false: the firewall is somebody else's; it is looked at and never changed"
    )
    ssh_ports: Annotated[SshPorts | Auto, Expected("auto, or a list of ports such as [22, 2222]")] = Field(
        default="auto",
        description="auto: found on the server; [] on a server that is not administered over SSH",
        examples=[[22, 2222]],
        json_schema_extra=UNIQUE,
    )
    http: Annotated[bool | Auto, Expected("auto, true or false")] = Field(
        default="auto", description="port 80; auto: open in modes acme and custom"
    )
    allow: Annotated[
        tuple[AllowRule, ...],
        AfterValidator(_distinct_rules),
        Expected("a list of rules with port, protocol, from and comment"),
    ] = Field(
        default=(),
        description="more rules",
        examples=[[{"port": 9100, "protocol": "tcp", "from": "10.0.0.0/8", "comment": "node exporter"}]],
        json_schema_extra=UNIQUE,
    )
    safety_seconds: Annotated[int, Expected("a number of seconds from 10 to 3600")] = Field(
        default=60,
        ge=10,
        le=3600,
        description="how long an unproven firewall waits for confirmation before everything is put back",
    )


# What each mode cannot do without, and what none but some modes read.
NEEDS: dict[str, tuple[str, ...]] = {
    "internal": (),
    "acme": ("domain", "email"),
    "custom": ("domain", "certificate", "private_key"),
}
READS: dict[str, tuple[str, ...]] = {
    "internal": ("hosts",),
    "acme": ("domain", "public_addresses", "email", "acme_directory", "acme_ca_file", "eab_file"),
    "custom": ("domain", "public_addresses", "certificate", "private_key"),
}


def _if_mode(mode: str) -> JsonDict:
    """What the mode cannot do without, as a JSON Schema says it."""
    needed: JsonDict = {
        "required": [*NEEDS[mode]],
        "properties": {key: {"type": "string"} for key in NEEDS[mode]},
    }
    return {"if": {"properties": {"mode": {"const": mode}}, "required": ["mode"]}, "then": needed}


class Tls(Section):
    """The certificate."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_if_mode("acme"), _if_mode("custom")]})

    mode: Annotated[Literal["internal", "acme", "custom"], Expected("internal, acme or custom")] = Field(
        description="internal (Caddy's own CA), acme (Let's Encrypt or any ACME CA) or custom (your files)"
    )
    hosts: Annotated[
        Annotated[tuple[Host, ...], Field(min_length=1), Once] | Auto,
        Expected("auto, or a list of names and addresses"),
    ] = Field(
        default="auto",
        description="internal: addresses and names in the certificate; auto: all that this server has",
        examples=[["10.0.0.5", "llm.lan"]],
        json_schema_extra=UNIQUE,
    )
    domain: Annotated[Domain | None, Expected("one full name, such as llm.example.com")] = Field(
        default=None, description="acme, custom: the name that clients call", examples=["llm.example.com"]
    )
    public_addresses: Annotated[
        Annotated[tuple[Address, ...], Field(min_length=1), Once] | Auto,
        Expected("auto, or a list of IP addresses"),
    ] = Field(
        default="auto",
        description="where the domain must point; auto: interfaces, then the cloud's metadata",
        examples=[["203.0.113.7"]],
        json_schema_extra=UNIQUE,
    )
    email: Annotated[
        Annotated[str, AfterValidator(values.email), same("a mail address", values.MAILBOX)] | None,
        Expected("a mail address, such as ops@example.com"),
    ] = Field(default=None, description="acme: whom the CA may write to", examples=["ops@example.com"])
    acme_directory: Annotated[Url, Expected("an https address")] = Field(
        default="https://acme-v02.api.letsencrypt.org/directory", description="acme: the CA"
    )
    acme_ca_file: Annotated[Path | None, Expected("null, or an absolute path")] = Field(
        default=None,
        description="acme: PEM that the directory's own certificate is checked with (a private CA)",
        examples=["/etc/ssl/private-ca.pem"],
    )
    eab_file: Annotated[Path | None, Expected("null, or an absolute path")] = Field(
        default=None,
        description="acme: account made beforehand (EAB): root's file, 0600; key id and MAC key, a line each",
        examples=["/etc/vllm-https-setup/eab"],
    )
    certificate: Annotated[Path | None, Expected("an absolute path, such as /etc/ssl/llm/chain.pem")] = Field(
        default=None,
        description="custom: leaf first, then the intermediates",
        examples=["/etc/ssl/llm/chain.pem"],
    )
    private_key: Annotated[Path | None, Expected("an absolute path, such as /etc/ssl/llm/key.pem")] = Field(
        default=None,
        description="custom: the key of that certificate, not encrypted",
        examples=["/etc/ssl/llm/key.pem"],
    )


class Caddy(Section):
    """The proxy's package and the files that others wrote for it."""

    repository: Annotated[Url, Expected("an https address")] = Field(
        default="https://dl.cloudsmith.io/public/caddy/stable", description="where the package comes from"
    )
    key_fingerprint: Annotated[
        str,
        AfterValidator(values.fingerprint),
        same("", values.FINGERPRINT),
        Expected("40 hexadecimal digits"),
    ] = Field(
        default="65760C51EDEA2017CEA2CA15155B6D79CA56EA34",
        description="the pinned signer's primary key; any other is refused",
    )
    existing_config: Annotated[Literal["stop", "keep", "replace"], Expected("stop, keep or replace")] = Field(
        default="stop",
        description="a Caddyfile with other sites: stop, keep (ours is imported into it) or replace",
    )
    edited_config: Annotated[Literal["replace", "stop"], Expected("replace or stop")] = Field(
        default="replace",
        description="our own files, edited by hand since: replace (the edit is backed up) or stop",
    )


class Proxy(Section):
    """How requests pass."""

    read_timeout: Annotated[Duration, Expected("a time with its unit from 1s to 24h, such as 3600s or 10m")] = Field(
        default="3600s", description="the longest wait for vLLM's answer"
    )
    write_timeout: Annotated[Duration, Expected("a time with its unit from 1s to 24h, such as 3600s or 10m")] = Field(
        default="3600s", description="the longest time to send a request to vLLM"
    )
    compression: Annotated[
        tuple[Literal["zstd", "gzip"], ...], Once, Expected("a list of zstd and gzip; [] for none")
    ] = Field(
        default=("zstd", "gzip"),
        description="[] for none; event streams are never compressed",
        json_schema_extra=UNIQUE,
    )
    hsts: Annotated[
        Annotated[str, AfterValidator(values.hsts), same("", values.HSTS)] | None,
        Expected("null, or max-age=31536000; includeSubDomains; preload"),
    ] = Field(
        default="max-age=31536000; includeSubDomains; preload",
        description="the header Strict-Transport-Security; null for none",
    )
    http3: Annotated[bool, Expected("true or false")] = Field(default=False, description="true opens 443/udp too")
    access_log: Annotated[bool, Expected("true or false")] = Field(default=True, description="Caddy logs each request")


class Test(Section):
    """The final test's request."""

    __test__ = False  # not a test class of pytest

    model: Annotated[
        str,
        AfterValidator(values.line),
        same("", values.LINE, maxLength=500),
        Expected("auto, or a model's name"),
    ] = Field(default="auto", max_length=500, description="auto: the first that /v1/models lists")
    prompt: Annotated[
        str,
        AfterValidator(values.prompt),
        same("", values.PROMPT, maxLength=10000),
        Expected("text of 1 to 10000 characters"),
    ] = Field(
        default="Say hello in French",
        max_length=10000,
        description="what the model is asked",
    )
    max_tokens: Annotated[int, Expected("a number from 1 to 100000")] = Field(
        default=50, ge=1, le=100_000, description="the longest answer, in tokens"
    )
    timeout: Annotated[int, Expected("a number of seconds from 1 to 86400")] = Field(
        default=120, ge=1, le=86400, description="seconds for one answer of the model; busy is not broken"
    )
