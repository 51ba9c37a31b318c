"""Worker processes under one roof: starting, watching, replacing."""
