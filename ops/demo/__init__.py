"""`mirage demo`: real media through the whole running system, measured."""
