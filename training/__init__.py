"""Clips and stills to a trained bundle."""
