"""The intranet side: fetches outward only, verifies, installs, reloads, probes, rolls back."""
