"""The agent's only prose: dashboard, metrics, alerts, wording."""
