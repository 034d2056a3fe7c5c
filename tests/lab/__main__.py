"""`python -m tests.lab clean [ID…]`: ends and removes what labs left behind whose own process was killed."""

import sys

from tests.lab.clean import abandoned, clean, remains


def main(words: list[str]) -> int:
    """Clean the labs named, or all abandoned ones, and say what is left; 1 where something is, 2 for a wrong call."""
    if words[:1] != ["clean"]:
        print(__doc__, file=sys.stderr)
        return 2
    left: list[str] = []
    for lab_id in words[1:] or abandoned():
        clean(lab_id)
        found = remains(lab_id)
        print(f"{lab_id}: {'; '.join(found) or 'clean'}")
        left += found
    return 1 if left else 0


sys.exit(main(sys.argv[1:]))
