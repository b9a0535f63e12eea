"""How bytes travel to a peer."""
