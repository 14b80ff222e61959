"""A registry inside a test: see ``waypost.testing.plugin`` for the fixtures."""
