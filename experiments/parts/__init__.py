"""Parts of single experiments: what would make their scripts too long."""
