"""The YAML file of vLLM's --config: its keys are the long options, and the command line wins over it."""

from dataclasses import dataclass

LARGEST = 64 * 1024  # bytes
TAG = "tag:yaml.org,2002:"
MERGED = f"{TAG}merge"


@dataclass(frozen=True)
class VllmConfig:
    """What the file says about where vLLM listens."""

    path: str
    host: str | None = None
    port: int | None = None
    uds: str | None = None


def parse_vllm_config(path: str, content: bytes) -> VllmConfig | None:
    """None where the content is no YAML mapping (vLLM does not start with it either), or one that is not read here.

    It is composed and not built: merges and aliases, which can make a small file an endless one, stay as they are.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    if len(content) > LARGEST:
        return None
    try:
        found = YAML(typ="safe", pure=True).compose(content)
    except (YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(found, MappingNode) or any(key.tag == MERGED for key, _ in found.value):
        return None
    said = {key.value: one for key, one in found.value if isinstance(key, ScalarNode) and isinstance(one, ScalarNode)}

    def text(name: str) -> str | None:
        return (said[name].value or None) if name in said and said[name].tag == f"{TAG}str" else None

    port = said["port"].value if "port" in said and said["port"].tag == f"{TAG}int" else ""
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    return VllmConfig(path, text("host"), number if 0 < number < 65536 else None, text("uds"))
