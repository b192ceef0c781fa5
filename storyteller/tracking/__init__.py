"""The run folder on disk: the only room that knows a file name of it. Standard library, and psutil behind a door."""
