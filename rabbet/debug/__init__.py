"""Looking at what runs: profile, explain, draw, and which op made the first NaN."""
