"""What commands say on the simulated server, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# vLLM's words while it loads its model, each with the second at which it says them.
LOADING = (
    (0.0, "INFO [api_server.py:1899] vLLM API server version 0.11.0"),
    (
        0.8,
        "INFO [core.py:77] Initializing a V1 LLM engine (v0.11.0), model='microsoft/Phi-4-mini-instruct'",
    ),
    (1.8, "INFO [gpu_model_runner.py:2602] Starting to load model microsoft/Phi-4-mini-instruct..."),
    (2.6, "Loading safetensors checkpoint shards:   0% Completed | 0/3"),
    (3.3, "Loading safetensors checkpoint shards:  33% Completed | 1/3"),
    (4.1, "Loading safetensors checkpoint shards:  67% Completed | 2/3"),
    (4.9, "Loading safetensors checkpoint shards: 100% Completed | 3/3"),
    (5.6, "INFO [backends.py:548] Using cache directory: /home/vllm/.cache/vllm/torch_compile_cache"),
    (6.4, "INFO [gpu_worker.py:298] Available KV cache memory: 30.71 GiB"),
    (7.2, "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  58%"),
    (8.2, "INFO [api_server.py:1971] Starting vLLM API server 0 on http://127.0.0.1:8000"),
)
LOADING_S = 8.6
FAILS_AFTER_S = 4.4
FAILURE = "torch.OutOfMemoryError: CUDA out of memory. GPU 0 has a capacity of 44.39 GiB of which 1.94 GiB is free."

# Caddy's log while a CA issues: the second, the logger, and its words.
ISSUANCE = (
    (0.0, "tls.obtain", "obtaining certificate"),
    (0.4, "tls", "creating new account because no account for configured email is known to us"),
    (1.0, "http.acme_client", "trying to solve challenge"),
    (1.8, "tls", "served key authentication"),
    (2.4, "http.acme_client", "authorization finalized"),
    (3.0, "tls.obtain", "successfully downloaded available certificate chains"),
)
ISSUED_AFTER_S = 3.4

INSTALL = """\
Reading package lists...
Building dependency tree...
Reading state information...
The following NEW packages will be installed:
  {names}
0 upgraded, {count} newly installed, 0 to remove and 12 not upgraded.
{got}\
Fetched 27.8 MB in 1s (19.4 MB/s)
{unpacked}\
{set_up}\
"""
UPDATE = """\
Get:1 https://dl.cloudsmith.io/public/caddy/stable/deb/debian any-version InRelease [14.8 kB]
Get:2 https://dl.cloudsmith.io/public/caddy/stable/deb/debian any-version/main amd64 Packages [6,482 B]
Fetched 21.3 kB in 1s (24.9 kB/s)
Reading package lists...
"""
# The beginning of a command, its seconds, and its output.
SAID: tuple[tuple[tuple[str, ...], float, str], ...] = (
    (("ufw", "--force", "enable"), 0.9, "Firewall is active and enabled on system startup\n"),
    (("ufw", "allow"), 0.35, "Rules updated\nRules updated (v6)\n"),
    (("ufw", "delete"), 0.35, "Rules updated\nRules updated (v6)\n"),
    (
        ("ufw", "default"),
        0.4,
        "Default incoming policy changed to 'deny'\n",
    ),
    (("apt-get", "update"), 1.6, UPDATE),
    (("systemctl", "restart", "vllm.service"), 1.4, ""),
    (("systemctl", "reload-or-restart", "caddy.service"), 0.6, ""),
    (("runuser", "-u", "caddy"), 0.7, "Valid configuration\n"),
    (("systemctl", "start", "vllm-https-setup-revert.service"), 0.9, ""),
    (("systemctl",), 0.2, ""),
)
SHORTEST_S = 0.05


def issuance(*, by_443: bool) -> Iterator[tuple[float, str, str]]:
    """The lines of `ISSUANCE`; the CA comes by port 443 where 80 is closed."""
    for at, logger, text in ISSUANCE:
        yield at, logger, f"{text} certificate" if by_443 and text.startswith("served") else text


def said(argv: Sequence[str], versions: dict[str, str]) -> tuple[float, str]:
    """How long the command takes, in seconds, and what it puts out."""
    if tuple(argv[:2]) == ("apt-get", "install"):
        return 4.5, _install(argv[list(argv).index("--") + 1 :], versions)
    found = next(((seconds, text) for head, seconds, text in SAID if tuple(argv[: len(head)]) == head), None)
    return found or (SHORTEST_S, "")


def _install(names: Sequence[str], versions: dict[str, str]) -> str:
    known = [(name, versions.get(name, "")) for name in sorted(names)]
    source = "http://archive.ubuntu.com/ubuntu noble/universe amd64"
    ours = "https://dl.cloudsmith.io/public/caddy/stable/deb/debian any-version/main amd64"
    return INSTALL.format(
        names=" ".join(name for name, _ in known),
        count=len(known),
        got="".join(
            f"Get:{number} {ours if name == 'caddy' else source} {name} {version}\n"
            for number, (name, version) in enumerate(known, 1)
        ),
        unpacked="".join(f"Unpacking {name} ({version}) ...\n" for name, version in known),
        set_up="".join(f"Setting up {name} ({version}) ...\n" for name, version in known),
    )
