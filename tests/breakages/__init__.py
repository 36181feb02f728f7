"""Product code with one check taken out: the tests that docs/security.md names have to notice."""
