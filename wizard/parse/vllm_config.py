"""The YAML file of vLLM's --config: its keys are the long options, and the command line wins over it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VllmConfig:
    """What the file says about where vLLM listens."""

    path: str
    host: str | None = None
    port: int | None = None
    uds: str | None = None


def parse_vllm_config(path: str, content: bytes) -> VllmConfig | None:
    """None where the content is no YAML mapping: vLLM does not start with it either."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    host, port, uds = (found.get(name) for name in ("host", "port", "uds"))
    return VllmConfig(
        path,
        host if isinstance(host, str) and host else None,
        port if isinstance(port, int) and 0 < port < 65536 else None,
        uds if isinstance(uds, str) and uds else None,
    )
