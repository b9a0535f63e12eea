"""The commands of ``librarian`` for people who bring, find and fetch files."""
