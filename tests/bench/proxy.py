"""The proxy that is configured, beside the guide's, nginx and none: ./tests/bench/run proxy [--quick] [--http2]

A stand-in for vLLM sends tokens at a fixed pace through each of them, turn by turn in the same run, in a network
namespace of its own. "none" is the stand-in called directly, over plain HTTP/1.1, which is all that vLLM speaks: what
it and the clients take themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import edges, http1, http2, variants
from tests.bench.load import Address, Connection, Requests, Streams
from tests.bench.paced import Model
from tests.bench.proxies import HOST, Kind, Proxy, guides, nginx, nginx_binary, ours
from tests.lab.archive import caddy_binary
from tests.lab.machine import run

STREAMS = (1, 50, 500, 2000)
TOKENS_PER_SECOND = 2500  # of all streams together: well below what any of them can do
FASTEST = 0.001  # seconds between two tokens of a stream
AT_ONCE = 32  # requests for JSON
SIZES = (300, 700)  # bytes of JSON: a list of one model, an answer in a few words
NONE = "none"

Figures = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much is done: rounds whose median counts, and the seconds of one look."""

    rounds: int = 7
    window: float = 0.5
    requests: int = 10_000


FULL = Scale()
QUICK = Scale(3, 0.25, 1_000)


@dataclass(frozen=True)
class Target:
    """What clients call: a proxy or, with None, the stand-in itself; `index` is its port of the stand-in."""

    name: str
    index: int
    address: Address
    proxy: Proxy | None
    speaking: type[Connection]

    def cpu(self) -> float:
        return self.proxy.cpu() if self.proxy else 0.0

    def memory(self) -> int:
        return self.proxy.memory() if self.proxy else 0


def measure_streams(model: Model, targets: Sequence[Target], count: int, scale: Scale) -> dict[str, Figures]:
    """What each costs with so many streams open: at an even pace, and with tokens as fast as they go."""
    empty = {target.name: target.memory() for target in targets}
    streams = {target.name: Streams(target.speaking, target.address) for target in targets}
    for target in targets:
        became = streams[target.name].open(count)
        if became != {"streams": count}:
            raise RuntimeError(f"{target.name}: of {count} streams {became}")
    rounds: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for number in range(scale.rounds):
        for target in _in_turn(targets, number):
            rounds[target.name].append(_one_round(model, target, streams[target.name], count, scale))
        for target in targets:
            found, direct = rounds[target.name][-1], rounds[NONE][-1]
            for name in ("delay_us", "delay_p99_us"):
                found[f"added_{name}"] = found[name] - direct[name]
            found["memory_per_stream"] = (found["memory"] - empty[target.name]) / count
    for one in streams.values():
        one.close()
    return {name: _medians(found) for name, found in rounds.items()}


def _one_round(model: Model, target: Target, streams: Streams, count: int, scale: Scale) -> Figures:
    window = scale.window
    pace = max(FASTEST, count / TOKENS_PER_SECOND)
    before = target.cpu()
    model.set(target.index, pace)
    even = streams.read(window, 0.02)
    model.set(target.index, 0)
    streams.read(0.05)
    paced_cpu = target.cpu() - before
    memory = target.memory()
    model.set(target.index, FASTEST)
    fast = streams.read(window / 2)
    model.set(target.index, 0)
    while streams.read(0.05).tokens:
        pass
    delays = sorted(even.delays)
    return {
        "first_token_us": statistics.median(even.first),
        "delay_us": statistics.median(delays),
        "delay_p99_us": delays[len(delays) * 99 // 100],
        "cpu_us_per_token": paced_cpu / even.tokens * 1e6,
        "bytes_per_token": even.size / even.tokens,
        "tokens_per_second": fast.tokens / (window / 2),
        "memory": memory,
    }


def measure_requests(targets: Sequence[Target], size: int, scale: Scale) -> dict[str, Figures]:
    """Requests per second for this much JSON, over connections that are kept."""
    asking = {target.name: Requests(target.speaking, target.address, f"/v1/{size}", AT_ONCE) for target in targets}
    rounds: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for number in range(scale.rounds + 1):
        for target in _in_turn(targets, number):
            requests = asking[target.name]
            requests.times.clear()
            before = target.cpu()
            count = requests.repeat(scale.window)
            found = {
                "per_second": count / scale.window,
                "cpu_us": (target.cpu() - before) / count * 1e6,
                "time_us": statistics.median(requests.times),
            }
            if number:
                rounds[target.name].append(found)
    for name, requests in asking.items():
        if set(requests.statuses) != {200}:
            raise RuntimeError(f"{name} answered {requests.statuses}")
        requests.close()
    return {name: _medians(found) for name, found in rounds.items()}


def _in_turn(targets: Sequence[Target], number: int) -> Sequence[Target]:
    """Another one is first in each round: none has the same before it each time."""
    first = number % len(targets)
    return [*targets[first:], *targets[:first]]


def _medians(rounds: Sequence[Figures]) -> Figures:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def describe_machine() -> dict[str, str | int]:
    """What the figures depend on."""
    processor = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), flags=re.M)
    return {
        "cores": os.cpu_count() or 0,
        "processor": processor[1] if processor else platform.machine(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "caddy": run([caddy_binary(), "version"]).stdout.split()[0],
        "load": f"{os.getloadavg()[0]:.1f}",
    }


# What is printed: the figure, its title, its unit's divisor, and the format.
STREAM_ROWS = (
    ("first_token_us", "time to first token, ms", 1000, ".2f"),
    ("added_delay_us", "added delay per token, µs: median", 1, ".0f"),
    ("added_delay_p99_us", "added delay per token, µs: p99", 1, ".0f"),
    ("cpu_us_per_token", "CPU per token, µs", 1, ".1f"),
    ("bytes_per_token", "bytes per token", 1, ".0f"),
    ("tokens_per_second", "tokens per second at the most", 1, ".0f"),
    ("memory", "memory of its own, MB", 1e6, ".1f"),
    ("memory_per_stream", "memory per stream, kB", 1000, ".1f"),
)
REQUEST_ROWS = (
    ("per_second", "requests per second", 1, ".0f"),
    ("cpu_us", "CPU per request, µs", 1, ".0f"),
    ("time_us", "time of a request, ms", 1000, ".2f"),
)
PROXY_ONLY = {"added_delay_us", "added_delay_p99_us", "cpu_us_per_token", "memory", "memory_per_stream", "cpu_us"}


def print_table(title: str, rows: Sequence[tuple[str, str, float, str]], found: Mapping[str, Figures]) -> None:
    first = next(iter(found))
    width = max(16, *(len(name) + 1 for name in found))
    print(f"\n{title:<38}" + "".join(f"{name:>{width}}" for name in found))
    for key, label, divisor, form in rows:
        cells = []
        for name, figures in found.items():
            if name == NONE and key in PROXY_ONLY:
                cells.append("")
                continue
            base = found[first][key]
            ratio = f" {figures[key] / base:5.2f}" if name != first and base > 0 else ""
            cells.append(f"{figures[key] / divisor:{form}}{ratio}")
        print(f"  {label:<36}" + "".join(f"{cell:>{width}}" for cell in cells))


def compare(kinds: Sequence[Kind], arguments: argparse.Namespace) -> dict[str, object]:
    """All figures; printed as they come, unless JSON is wanted."""
    scale = QUICK if arguments.quick else FULL
    speaking = http2.Connection if arguments.http2 else http1.Connection
    document: dict[str, object] = {"machine": describe_machine(), "rounds": scale.rounds, "protocol": speaking.protocol}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        model = Model(len(kinds) + 1)
        proxies = []
        try:
            for index, kind in enumerate(kinds):
                proxies.append(Proxy(kind, f"127.0.0.1:{model.ports[index]}", directory / f"{index}"))
            targets = [Target(one.kind.name, index, one.address, one, speaking) for index, one in enumerate(proxies)]
            targets.append(Target(NONE, len(kinds), Address(HOST, model.ports[-1], tls=False), None, http1.Connection))
            document["streams"] = streams = {}
            for count in arguments.streams:
                streams[str(count)] = found = measure_streams(model, targets, count, scale)
                if not arguments.json:
                    print_table(f"{count} streams, {speaking.protocol}", STREAM_ROWS, found)
            document["requests"] = requests = {}
            for size in SIZES:
                requests[str(size)] = found = measure_requests(targets, size, scale)
                if not arguments.json:
                    print_table(f"{size} bytes of JSON, {speaking.protocol}", REQUEST_ROWS, found)
        finally:
            for proxy in proxies:
                proxy.end()
            model.end()
        if not arguments.variant:
            document["reuse"] = reuse = edges.measure_reuse(kinds, directory / "reuse", scale.requests, speaking)
            document["limits"] = limits = edges.find_limits(kinds, directory / "limits", speaking)
            if not arguments.json:
                edges.print_edges(reuse, limits)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench/run proxy", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document in place of the tables")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--streams", type=int, nargs="*", default=None, metavar="N", help="how many are open; none: requests alone"
    )
    parser.add_argument(
        *("--variant", "-v"), action="append", default=[], choices=sorted(variants.VARIANTS), help="ours, changed so"
    )
    parser.add_argument(
        "--http2",
        action="store_true",
        help=f"clients that speak it: {http2.Connection.streams} streams, or {http2.Connection.requests} requests for "
        "JSON at once, on a connection",
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.http2 and "http1" in arguments.variant:
        parser.error("the variant http1 has no HTTP/2")
    if arguments.streams is None:
        arguments.streams = STREAMS[:3] if arguments.quick else STREAMS
    # Both must be there before the network is gone.
    nginx_there = nginx_binary() is not None
    if not arguments.inside:
        command = 'ip link set lo up && exec "$@"'
        inside = ["unshare", "--net", "--", "sh", "-c", command, "sh", sys.executable, "-m", "tests.bench.proxy"]
        os.execvp("unshare", [*inside, "--inside", *sys.argv[1:]])
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if arguments.variant:
        kinds = [ours(), *(variants.make(ours(), name) for name in arguments.variant)]
    else:
        kinds = [ours(), guides(), *([nginx()] if nginx_there else [])]
    if not nginx_there:
        print("nginx is missing: its package can't be had from the archive that apt here knows", file=sys.stderr)
    document = compare(kinds, arguments)
    document["nginx"] = "compared" if nginx_there else "missing"
    if arguments.json:
        json.dump(document, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
