"""Framing only: bytes to events and back. No JSON meaning, no IO."""
