"""The pytest plugin: fixtures that give a test a registry of its own."""
