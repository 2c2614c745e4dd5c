"""Timelines of made videos, whose kinds and borders are known."""
