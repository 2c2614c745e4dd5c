"""Whether it keeps working: bad files, bad messages, killed processes, overload, hours of work, no network."""
