"""The layouts of published checkpoints."""
