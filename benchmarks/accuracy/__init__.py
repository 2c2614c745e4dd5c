"""What a recipe is worth on works it has not seen: seeds, frames, and simpler models beside it."""
