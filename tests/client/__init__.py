"""Tests of the client and of the commands that use it."""
