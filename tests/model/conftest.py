"""Examples have no time limit of their own: a busy machine is not a bug."""

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
