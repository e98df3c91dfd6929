"""The leaderboard: runs that may be compared, ranked with what is not certain."""
