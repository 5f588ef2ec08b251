"""What a mean or a difference is worth: pure functions over numbers that runs recorded."""
