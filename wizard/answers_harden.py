"""The section `harden` of the answers file: what a server needs beside encryption, all of it optional."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wizard import answers_values as values
from wizard.answers_sections import UNIQUE, Auto, Expected, Once, Path, Port, Section, Url, same

Size = Annotated[str, AfterValidator(values.size), same("a size such as 100MB", values.SIZE)]
Network = Annotated[str, AfterValidator(values.network), same("an address or a network", values.NETWORK_ALONE)]
Networks = Annotated[tuple[Network, ...], Once]
Count = Annotated[int, Field(ge=1, le=100_000)]

# Caddy remembers the time of each: 24 bytes, for each address.
PerMinute = Annotated[int, Field(ge=1, le=10_000)]

NETWORKS = Expected("a list of addresses and networks, such as [203.0.113.7, 10.0.0.0/8]")
COUNT = Expected("auto, null, or a number from 1 to 100000")
SWITCH = Expected("auto, true or false")


class Harden(Section):
    """What production asks for beside encryption; all of it optional."""

    recommended: Annotated[bool, Expected("true or false")] = Field(
        default=False, description="true: what is auto below gets the value that suits most servers"
    )
    max_body: Annotated[Size | Auto | None, Expected("auto, null, or a size such as 100MB")] = Field(
        default="auto",
        description="the largest request; larger ones get 413. Recommended 100MB: a few images have 50",
        examples=["100MB"],
    )
    max_requests: Annotated[Count | Auto | None, COUNT] = Field(
        default="auto",
        description="requests that vLLM gets at once; more get 503. Recommended 512: vLLM works on 256, as many wait",
        examples=[512],
    )
    slow_clients: Annotated[bool | Auto, SWITCH] = Field(
        default="auto",
        description="whoever sends a request's head for over 10 s, or its body for over 5 min, is cut off",
        examples=[True],
    )
    connections_per_address: Annotated[Count | Auto | None, COUNT] = Field(
        default="auto",
        description="connections of one address to the web ports at once; more are refused. Recommended 200",
        examples=[200],
    )
    new_connections_per_minute: Annotated[Count | None, Expected("null, or a number from 1 to 100000")] = Field(
        default=None,
        description="new connections of one address to the web ports in a minute; more are refused",
        examples=[600],
    )
    requests_per_minute: Annotated[PerMinute | None, Expected("null, or a number from 1 to 10000")] = Field(
        default=None,
        description="requests of one address to a service in a minute; more get 429. Takes a Caddy with the module "
        "rate_limit, which the package has not",
        examples=[120],
    )
    ban_wrong_keys: Annotated[bool | Auto, SWITCH] = Field(
        default="auto",
        description="fail2ban, which is installed, shuts the web ports to an address that sends wrong keys; never SSH",
        examples=[True],
    )
    ban_after: Annotated[int, Expected("a number from 3 to 1000")] = Field(
        default=20, ge=3, le=1000, description="wrong keys within 10 minutes until an address is banned"
    )
    ban_seconds: Annotated[int, Expected("a number of seconds from 60 to 604800")] = Field(
        default=600, ge=60, le=604_800, description="how long an address is banned"
    )
    never_ban: Annotated[Networks, NETWORKS] = Field(
        default=(),
        description="never banned nor limited, beside this server itself and where its operator sits (whose requests "
        "are limited)",
        examples=[["203.0.113.7"]],
        json_schema_extra=UNIQUE,
    )
    allow_from: Annotated[Networks, NETWORKS] = Field(
        default=(),
        description="who may use the API; [] for everybody with a key. All others get 403 from Caddy",
        examples=[["203.0.113.7", "10.0.0.0/8"]],
        json_schema_extra=UNIQUE,
    )
    lora_loading: Annotated[bool, Expected("true or false")] = Field(
        default=False, description="whether clients may load and unload LoRA adapters, where vLLM has that"
    )
    sandbox: Annotated[
        Annotated[tuple[Literal["caddy", "vllm"], ...], Once] | Auto, Expected("auto, or a list of caddy and vllm")
    ] = Field(
        default="auto",
        description="services that systemd confines to what they need; each is restarted once",
        examples=[["caddy", "vllm"]],
        json_schema_extra=UNIQUE,
    )
    admin_socket: Annotated[bool | Auto, SWITCH] = Field(
        default="auto",
        description="Caddy is administered by a socket of its own, not by a port that any user of this server can use",
        examples=[True],
    )
    watch: Annotated[bool | Auto, SWITCH] = Field(
        default="auto",
        description="a timer runs the checks and the final test, and says in the journal what has changed",
        examples=[True],
    )
    watch_minutes: Annotated[int, Expected("a number of minutes from 1 to 1440")] = Field(
        default=15, ge=1, le=1440, description="how often"
    )
    notify_command: Annotated[Path | None, Expected("null, or an absolute path")] = Field(
        default=None,
        description="watch: a program of root's that is run on each change, with the change as JSON to read",
        examples=["/usr/local/bin/notify"],
    )
    notify_url: Annotated[Url | None, Expected("null, or an https address")] = Field(
        default=None,
        description="watch: where each change is posted to, as JSON",
        examples=["https://example.com/hook"],
    )
    prometheus_file: Annotated[Path | None, Expected("null, or an absolute path")] = Field(
        default=None,
        description="watch: a text file of metrics for node_exporter",
        examples=["/var/lib/prometheus/node-exporter/vllm-https.prom"],
    )
    metrics_from: Annotated[Networks, NETWORKS] = Field(
        default=(),
        description="who may read Caddy's and vLLM's metrics, at a port of their own",
        examples=[["10.0.0.9"]],
        json_schema_extra=UNIQUE,
    )
    metrics_port: Annotated[Port, Expected("a port from 1 to 65535")] = Field(
        default=9180, description="where they are read: /caddy and /vllm; of vllm.more: /vllm/PATH or /vllm/HOST"
    )
