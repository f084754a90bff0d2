"""The words every room uses: requests, answers, samples, runs, errors and the frames that travel."""
