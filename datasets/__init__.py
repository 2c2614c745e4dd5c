"""Folders of videos and pictures to checked, split manifests."""
