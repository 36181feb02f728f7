"""The command line of the puller, one module for each group of commands."""
