"""Where a proxy meets a limit: connections that vLLM has just closed, no vLLM, too many clients."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.bench.load import CHAT, Connection, Requests, Streams
from tests.bench.paced import Model
from tests.bench.proxies import Kind, Proxy, free_port

KEEP_ALIVE = 0.2  # seconds; in place of uvicorn's 5, so that ten thousand pauses take a minute
AT_ONCE = 32
FILES = 256  # a proxy's limit of open files
BODY = b'{"model":"phi-4-mini","messages":[{"role":"user","content":"Say hello in French"}]}'


def hastened(kind: Kind) -> Kind:
    """The same with its own keep-alive to vLLM, where it has one, shortened as the stand-in's is."""

    def text(port: int, upstream: str) -> str:
        return kind.text(port, upstream).replace("keepalive 4s", f"keepalive {KEEP_ALIVE / 5 * 4 * 1000:.0f}ms")

    return replace(kind, text=text)


def measure_reuse(
    kinds: Sequence[Kind], directory: Path, count: int, speaking: type[Connection]
) -> dict[str, dict[str, int]]:
    """How many requests got which status: bursts of them, with pauses around the stand-in's keep-alive time."""
    model = Model(len(kinds))
    proxies: list[Proxy] = []
    try:
        for index, kind in enumerate(kinds):
            model.set(index, keep_alive=KEEP_ALIVE)
            proxies.append(Proxy(hastened(kind), f"127.0.0.1:{model.ports[index]}", directory / str(index)))
        with ThreadPoolExecutor(len(kinds)) as pool:
            statuses = list(pool.map(lambda proxy: _ask_with_pauses(proxy, count, speaking), proxies))
    finally:
        for proxy in proxies:
            proxy.end()
        model.end()
    return {kind.name: found for kind, found in zip(kinds, statuses, strict=True)}


def _ask_with_pauses(proxy: Proxy, count: int, speaking: type[Connection]) -> dict[str, int]:
    chance = random.Random(5)
    requests = Requests(speaking, proxy.address, "/v1/700", AT_ONCE, BODY)
    for _ in range(-(-count // AT_ONCE)):
        requests.burst()
        # Half of them as near as can be, the others all around.
        width = 0.02 if chance.random() < 0.5 else 0.3
        time.sleep(KEEP_ALIVE * chance.uniform(1 - width, 1 + width))
    requests.close()
    return {str(status): number for status, number in sorted(requests.statuses.items())}


def find_limits(kinds: Sequence[Kind], directory: Path, speaking: type[Connection]) -> dict[str, dict[str, str]]:
    """Who gets what, by circumstance and proxy."""
    found: dict[str, dict[str, str]] = {"vLLM is not there": {}, f"{FILES} open files, 200 streams": {}}
    gone, full = found.values()
    for index, kind in enumerate(kinds):
        proxy = Proxy(kind, f"127.0.0.1:{free_port()}", directory / f"gone-{index}")
        requests = Requests(speaking, proxy.address, CHAT, 8, BODY)
        requests.burst()
        gone[kind.name] = ", ".join(f"{number} × {status}" for status, number in requests.statuses.items())
        requests.close()
        proxy.end()
        full[kind.name] = _fill(kind, directory / f"full-{index}", speaking)
    return found


def _fill(kind: Kind, directory: Path, speaking: type[Connection]) -> str:
    """Twice the clients that the open files suffice for; then whether those that stream still do."""
    model = Model(1)
    proxy = Proxy(kind, f"127.0.0.1:{model.ports[0]}", directory, files=FILES)
    try:
        streams = Streams(speaking, proxy.address)
        became = streams.open(200, timeout=0.1)
        model.set(0, 0.2)
        window = streams.read(1)
        said = ", ".join(f"{number} × {how}" for how, number in became.items())
        return f"{said}; {len(streams)} stream on, {window.tokens} tokens in 1 s"
    finally:
        streams.close()
        proxy.end()
        model.end()


def print_edges(reuse: Mapping[str, Mapping[str, int]], limits: Mapping[str, Mapping[str, str]]) -> None:
    print(f"\nPauses around the keep-alive time ({KEEP_ALIVE} s for vLLM's 5 s): requests by status")
    for name, statuses in reuse.items():
        print(f"  {name:<16}" + ", ".join(f"{number} × {status}" for status, number in statuses.items()))
    for circumstance, found in limits.items():
        print(f"\n{circumstance}")
        for name, said in found.items():
            print(f"  {name:<16}{said}")
