"""Replay: a recorded session's metrics folded again, its decisions compared, its story told on one page."""
