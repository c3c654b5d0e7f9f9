"""Images: names, documents, transfers, and what the other engines make of them."""
