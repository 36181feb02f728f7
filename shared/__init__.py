"""The contract between the external agent and the internal puller."""
