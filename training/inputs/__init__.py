"""Samples to what a network learns from: drawn, decoded, damaged, and kept as features."""
