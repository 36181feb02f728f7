"""What both sides do on their own machine: run an operator's commands, read secret files."""
