"""How fast Bursar is, as ratios to yardsticks that are measured in the same run."""
