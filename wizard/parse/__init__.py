"""Pure functions from recorded outputs to facts."""
