"""The pages of the operator listener: rendered here, usable without JavaScript."""
