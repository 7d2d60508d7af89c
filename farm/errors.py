"""What can go wrong with an embedded farm."""


class FarmError(Exception):
    """A farm that cannot start or go on; the message tells the user what to do."""
