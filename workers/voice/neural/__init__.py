"""RVC v2 behind the voice engine protocol."""
