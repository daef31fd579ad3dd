"""What a sequence carries: recurrent states, keys and values, and their files."""
