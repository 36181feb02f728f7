"""Backup and restore: one archive with settings, key files and database."""
