"""The program as an overlay layer: installed in its own virtual environment, as `./install` leaves it."""

import functools
import hashlib
import os
import shutil
import sys
import tomllib
from pathlib import Path

from tests.lab import cache, layers
from tests.lab.base import Base, ensure_base, ensure_packages
from tests.lab.machine import run

HOME = "/opt/vllm-https-setup"
# The tags of glibc wheels: pip takes only those that it is told, where it does not install for itself.
PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 37)))
PACKAGES = ("wizard", "templates", "screens")


def ensure_program_layer(checkout: Path, suite: str = "bookworm") -> Path:
    """An overlay layer with this checkout's program; quick when only its own code has changed."""
    base = ensure_base(suite)
    environment = _environment(checkout, base)
    digest = hashlib.sha256(environment.name.encode())
    code = [file for name in PACKAGES for file in sorted((checkout / name).rglob("*")) if _belongs(file)]
    for file in code:
        digest.update(f"{file.relative_to(checkout)}\0".encode() + file.read_bytes())

    def build(into: Path) -> None:
        # hard links: the environment is never written to again
        shutil.copytree(environment / "upper", into / "upper", symlinks=True, copy_function=_link)
        own = next((into / f"upper{HOME}/lib").glob("python3.*")) / "site-packages"
        for file in code:
            target = own / file.relative_to(checkout)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        command = into / "upper/usr/local/bin/vllm-https-setup"
        command.parent.mkdir(parents=True)
        command.write_bytes((checkout / "wizard/__main__.py").read_bytes())
        command.chmod(0o755)
        run(["chmod", "-R", "u=rwX,go=rX", *(own / name for name in PACKAGES if (own / name).exists())])
        names = " ".join(f"{HOME}/lib/python3.*/site-packages/{name}" for name in PACKAGES if (own / name).exists())
        compile_all = f"{HOME}/bin/python -I -m compileall -q --invalidation-mode unchecked-hash {names}"
        layers.change([*base.layers, into / "upper"], compile_all, into=into / "compiled")
        run(["cp", "-aT", into / "compiled", into / "upper"])
        shutil.rmtree(into / "compiled")

    place = cache.built(f"program-{suite}", digest.hexdigest()[:16], build)
    return place / "upper"


def _belongs(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _link(source: str, target: str) -> str:
    os.link(source, target, follow_symlinks=False)
    return target


def _environment(checkout: Path, base: Base) -> Path:
    """The virtual environment with the libraries that pyproject.toml names, made by the base's own python3."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    return ensure_environment(base, "environment", HOME, sorted(project["dependencies"]))


def ensure_environment(base: Base, name: str, home: str, wanted: list[str]) -> Path:
    """A virtual environment at `home` with these packages, made by the base's own python3: in `upper` of the path."""
    return cache.built(
        f"{name}-{base.suite}",
        cache.key(base.layers[0].parent.name, wanted, home, "1"),
        functools.partial(_make_environment, base, home, wanted),
    )


def _make_environment(base: Base, home: str, wanted: list[str], into: Path) -> None:
    with_venv = ensure_packages(base, ["python3-venv"])
    version = next((base.layers[0] / "usr/lib").glob("python3.*")).name.removeprefix("python")
    machine = os.uname().machine
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    download = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--implementation", "cp"]
    run([*download, "--python-version", version, *platforms, "--dest", into / "wheels", *wanted], timeout=900)
    script = (
        f"python3 -m venv {home}\n"
        f"{home}/bin/python -I -m pip install -q --no-index --find-links /tmp/wheels {_quoted(wanted)}\n"
        f"{home}/bin/python -I -m pip uninstall -q -y pip setuptools\n"
    )
    layers.change(with_venv, script, into=into / "changed", binds={into / "wheels": "/tmp/wheels"})
    (into / f"upper{home}").parent.mkdir(parents=True)
    (into / f"changed{home}").rename(into / f"upper{home}")
    shutil.rmtree(into / "changed")
    shutil.rmtree(into / "wheels")


def _quoted(words: list[str]) -> str:
    return " ".join(f"'{word}'" for word in words)
