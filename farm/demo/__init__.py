"""`python -m farm.demo`: a whole farm, shown at work from the outside."""
