"""What a user types and sees: a module per command, options, progress, tables, exit codes.

It parses, calls ``tuner.commands`` and prints; nothing is measured or decided here.
"""
