"""The page: a form over the cascade's events. Knows frames, never tensors; nothing here loads torch."""
