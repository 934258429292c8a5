"""Reading and writing trained models: our own files, and other people's."""
