"""What travels over HTTP: request and response models."""
