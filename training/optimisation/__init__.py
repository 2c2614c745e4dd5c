"""Steps of an optimiser: losses, schedules, processes, checkpoints, and a teacher's lessons."""
