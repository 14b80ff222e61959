"""What holds for every test."""

from hypothesis import settings

# A deadline for each example is a wall clock in disguise: on a busy machine it fails at random.
settings.register_profile("waypost", deadline=None)
settings.load_profile("waypost")
