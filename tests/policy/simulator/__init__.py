"""Closed-loop simulator: load -> metric events -> the real policy -> decisions -> load. Pure, seeded, integer time."""
