"""Copies onto drives, which are real disks: filled up, pulled out, two at once, and read back from the medium."""
