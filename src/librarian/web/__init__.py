"""The HTTP routes, and what surrounds them."""
