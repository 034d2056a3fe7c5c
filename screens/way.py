"""The way through the wizard: what the rail shows, in its order."""

RAIL = (
    ("preflight", "Preflight"),
    ("firewall", "Firewall"),
    ("bind", "Bind"),
    ("caddy", "Caddy"),
    ("tls", "TLS"),
    ("harden", "Harden"),
    ("review", "Review"),
    ("work", "Set up"),
    ("test", "Test"),
)
STEPS = tuple(name for name, _ in RAIL[:6])


def is_before_work(place: int) -> bool:
    return place < [name for name, _ in RAIL].index("work")
