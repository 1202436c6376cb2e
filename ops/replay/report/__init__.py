"""One self-contained HTML page about a session: timeline, pictures, decisions."""
