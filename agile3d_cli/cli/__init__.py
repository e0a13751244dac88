"""What the user types: `app.py` puts it together and prints errors; each command is one thin file."""
