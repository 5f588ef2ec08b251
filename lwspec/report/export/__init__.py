"""Records in the forms that other programs read: tables, files, experiment trackers."""
