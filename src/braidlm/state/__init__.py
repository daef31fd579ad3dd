"""What sequences carry between tokens: recurrent states, keys and values, and their files."""
