"""Commands that measure, each writing a table."""
