"""What preflight says of vLLM as it answers: with the key and without, and by its version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .engine import Look
from .model import Finding, Level, Wait
from .vllm import Vllm

HOST_HEADER = (
    "a made-up Host header gets past the API key (this proxy refuses it; to programs on this server vLLM stays open)"
)
# Holes that matter behind a proxy: the first version with it, the first without, its name, and what it lets in.
HOLES = (
    ((0, 3, 0), (0, 22, 0), "CVE-2026-48746", HOST_HEADER),
    ((0, 0, 0), (0, 14, 1), "CVE-2026-22778", "a video in a request can run code on this server"),
)


def check_answers(look: Look, vllm: Vllm, loading: Wait) -> Iterator[Finding]:
    """vLLM guards /v1 by its key: 401 without it, 200 with it. Not yet answering is loading, and waited for."""
    with_key = look.server.vllm_ready(vllm.request("/v1/models", with_key=True))
    if with_key.status == 0:
        yield Finding(
            "preflight.vllm_answers",
            Level.DRIFT,
            f"vLLM does not answer on port {vllm.port} yet ({with_key.error})",
            fix=(loading,),
        )
        return
    without = look.server.vllm_ready(vllm.request("/v1/models", with_key=False))
    evidence = {"with_key": with_key.status, "without_key": without.status}
    if without.status == 200:
        yield Finding(
            "preflight.vllm_answers",
            Level.BLOCKED,
            "vLLM answers /v1/models without a key: it was started before the key was set",
            remedy=f"sudo systemctl restart {vllm.unit.name}, then run this again",
        )
    elif with_key.status != 200:
        yield Finding(
            "preflight.vllm_answers",
            Level.BLOCKED,
            f"vLLM answers {with_key.status} to a request with the key of {vllm.key_file}",
            remedy=f"was it changed since the start? sudo systemctl restart {vllm.unit.name}",
            evidence=evidence,
        )
    else:
        summary = f"vLLM answers: {without.status} without the key, 200 with it"
        yield Finding("preflight.vllm_answers", Level.OK, summary, evidence=evidence)
        yield from check_version(look, vllm)


def check_version(look: Look, vllm: Vllm) -> Iterator[Finding]:
    response = look.server.exchange(vllm.request("/version", with_key=False))
    try:
        version = str(json.loads(response.body)["version"])
    except (ValueError, KeyError, TypeError):
        return
    number = read_version(version)
    if number is None:
        return
    holes = [hole for hole in HOLES if hole[0] <= number < hole[1]]
    if holes:
        yield Finding(
            "preflight.vllm_version",
            Level.WARN,
            f"vLLM {version} has known holes: {'; '.join(f'{name}: {what}' for _, _, name, what in holes)}",
            remedy=f"install vLLM {_written(max(hole[1] for hole in holes))} or newer into its environment, then "
            f"sudo systemctl restart {vllm.unit.name}",
            evidence={"version": version, "holes": [hole[2] for hole in holes]},
        )


def read_version(text: str) -> tuple[int, ...] | None:
    """The numbers of a version; one before the release that it names (rc, dev) counts as older than that."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?([^+]*)", text)
    if found is None:
        return None
    number = (int(found[1]), int(found[2]), int(found[3] or 0))
    return (*number[:2], number[2] - 1, 99) if re.search(r"rc|dev|a\d|b\d", found[4]) else number


def _written(number: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in number)
