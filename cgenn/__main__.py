"""`python -m cgenn` is the command line."""

from cgenn.cli import app

app(prog_name="cgenn")
