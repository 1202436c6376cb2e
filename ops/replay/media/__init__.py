"""Replays a session's pictures and sound: the recorded input through the workers' converters, output against output."""
