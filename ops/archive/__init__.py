"""Sessions as files: what a recorder writes, and what replay and export read."""
