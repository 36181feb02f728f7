"""What makes challenges succeed."""
