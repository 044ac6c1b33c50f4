"""What bounds Bursar as it grows: calculations and simulations, without any server or network."""
