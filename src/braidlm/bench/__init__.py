"""Speed beside other engines: on the same weights in one run, and beside what the machine could do at best."""
