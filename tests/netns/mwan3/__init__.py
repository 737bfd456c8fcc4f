"""connbal beside the real mwan3: the same configuration, the same packets, the same marks."""
