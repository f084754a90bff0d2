"""What needle trials say: shares with their intervals, positional effects, effective context, and what spoils them.

Pure: columns in, data out; reports print. `trials.py` has the columns, `findings.py` puts everything together.
"""
