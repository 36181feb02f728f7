"""Wires everything together: the only place that knows everybody."""
