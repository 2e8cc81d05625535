"""Looking at a run: each file makes one view of a recording, and records nothing itself."""
