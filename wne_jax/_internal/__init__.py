"""What the rooms share and nobody outside needs: compiling, precision, files, progress."""
