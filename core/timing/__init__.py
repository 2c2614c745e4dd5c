"""Time: which frames stand for a clip, windows over long videos, and their segments."""
