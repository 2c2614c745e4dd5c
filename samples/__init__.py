"""Four short videos, one a class: see README.md in this folder for who made them."""
