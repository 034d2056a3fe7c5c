"""The wizard's screens: views of what wizard/ finds and does. Nothing is decided here."""
