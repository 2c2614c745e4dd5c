"""What keeps strangers' files, pages and requests from doing harm."""
