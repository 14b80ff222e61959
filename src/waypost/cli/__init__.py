"""The command line: whole programs, for people and for scripts."""
