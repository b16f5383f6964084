"""What happened: a run's folder, its files and whether they are as the run wrote them."""
