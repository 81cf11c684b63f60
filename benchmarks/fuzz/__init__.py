"""Hostile input for everything in tuner that reads: files, options, records, what servers say.

A reader gives back what it read, or raises an error of tuner's own with a message of a screen at
most; within seconds, and in bounded memory.
"""
