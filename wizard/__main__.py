"""Started by systemd and by the launcher: `python -I -m wizard`."""

from .cli import main

raise SystemExit(main())
