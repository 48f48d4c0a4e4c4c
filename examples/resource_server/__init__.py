"""A service beside Scopegate that trusts its tokens."""
