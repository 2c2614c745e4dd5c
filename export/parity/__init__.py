"""Is what is served what was trained? Rung by rung."""
