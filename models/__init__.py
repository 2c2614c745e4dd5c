"""The networks that training and export both read: backbones, the temporal head, and how they are stored."""
