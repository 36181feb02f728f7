"""Orders at the CAs: when they are due, how they are driven, what they leave."""
