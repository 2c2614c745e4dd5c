"""YouTube-8M: records to labelled videos, ids to files, frame features to a head."""
