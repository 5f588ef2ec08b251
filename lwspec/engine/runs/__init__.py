"""Run folders: the files by which jobs and the command line speak, and what they say."""
