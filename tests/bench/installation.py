"""An installation and a rerun, beside the guide's commands as a plain script: the same servers, turn by turn.

Both begin on a fresh server of their own; ours ends with all its proofs, the guide's with none. Prints medians and
ratios; figures of different machines can't be compared, ratios can.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from tests.lab import Lab, ServerSpec, ensure_program_layer
from tests.lab.server import Server

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ANSWERS = "/root/answers.yaml"
GUIDE = "/root/guide.sh"
OURS = ["vllm-https-setup", "apply", "--json", "--answers", ANSWERS]


def timed(server: Server, argv: list[str]) -> tuple[float, str]:
    """How long the command takes on the server, in seconds, and what it printed."""
    began = time.monotonic()
    result = server.run(argv, timeout=300)
    return time.monotonic() - began, result.stdout


def one_round(lab: Lab, layer: Path, *, guide_packages: bool) -> tuple[dict[str, float], dict[str, float]]:
    """The four times of a pair of fresh servers, and the times of our steps in the first run."""
    ours = lab.boot(ServerSpec(layers=(layer,), guide_packages=guide_packages))
    text = f"version: 1\ntls: {{mode: internal}}\ncaddy: {{key_fingerprint: {lab.key_fingerprint}}}\n"
    ours.put(ANSWERS, text.encode(), 0o600)
    first, document = timed(ours, OURS)
    again, _ = timed(ours, OURS)
    ours.discard()
    theirs = lab.boot(ServerSpec(guide_packages=guide_packages))
    theirs.put(GUIDE, (HERE / "guide.sh").read_bytes())
    guide_first, _ = timed(theirs, ["sh", GUIDE])
    guide_again, _ = timed(theirs, ["sh", GUIDE])
    theirs.discard()
    steps = {step["id"]: float(step["duration_s"]) for step in json.loads(document)["steps"]}
    return {"first": first, "again": again, "guide first": guide_first, "guide again": guide_again}, steps


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with Lab() as lab:
        layer = ensure_program_layer(CHECKOUT)
        for guide_packages in (False, True):
            found = [one_round(lab, layer, guide_packages=guide_packages) for _ in range(rounds)]
            median = {name: statistics.median(times[name] for times, _ in found) for name in found[0][0]}
            steps = {name: statistics.median(times[name] for _, times in found) for name in found[0][1]}
            state = "there already" if guide_packages else "to be installed"
            print(f"\nThe guide's packages {state}; medians of {rounds}, in seconds")
            for name, limit in (("first", 1.5), ("again", 0.6)):
                ratio = statistics.median(times[name] / times[f"guide {name}"] for times, _ in found)
                print(
                    f"  apply, {name:<5} {median[name]:5.2f}   guide {median[f'guide {name}']:5.2f}"
                    f"   ratio {ratio:4.2f} (wanted: at most {limit})"
                )
            print("  steps: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items()))


if __name__ == "__main__":
    main()
