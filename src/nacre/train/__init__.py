"""Floor 3: the protected trainer: stages, protections (one file each), checkpoints."""
