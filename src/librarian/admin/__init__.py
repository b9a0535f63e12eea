"""``python -m librarian.admin``: what the operators of a site do."""
